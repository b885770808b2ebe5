"""Addresses of what is shown: they can be shared, and the Back key goes through them."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browsing import Visit
from tests.e2e.page.actions import SAMPLES, add_samples, classify_samples, ready, write_classes
from tests.e2e.page.shown import best, classified, label, scores

pytestmark = pytest.mark.triton


def test_a_comparison_can_be_shared(compare: Page, visit: Callable[..., Visit]) -> None:
    assert "#" not in compare.url
    compare.click("[data-sample='blue-square.jpg']")
    label(compare, 1).fill("100 % blue & square?")
    shown = scores(compare)
    other = visit(compare.url).page
    expect(other.locator("#picture-name")).to_have_text("A blue square")
    expect(label(other, 4)).to_have_value(list(shown)[3])
    assert scores(other) == shown
    other.get_by_label("Cosine", exact=True).check(force=True)
    expect(visit(other.url).page.get_by_label("Cosine", exact=True)).to_be_checked()


def test_a_search_can_be_shared_with_who_has_the_pictures(search: Page) -> None:
    add_samples(search)
    search.fill("#query", "a green heart")
    expect(search.locator("#found-text")).to_contain_text("a green heart")
    search.get_by_label("Map", exact=True).check(force=True)
    other = search.context.new_page()
    other.goto(search.url)
    expect(other.locator("#found-text")).to_have_text("36 pictures, “a green heart” first")
    expect(other.locator("#map")).to_have_attribute("aria-label", re.compile("36 pictures, 1 result outlined"))


def test_classes_can_be_shared_and_come_back(classify: Page, visit: Callable[..., Visit]) -> None:
    assert classify.url.endswith("#classify")
    classify_samples(classify)
    write_classes(classify, "red, or so\n100 % blue & square?", "a {} thing")
    classify.wait_for_url("**/#classify?class=red%2C+or+so&class=100*&prompt=a+*")
    other = ready(visit(classify.url).page)
    expect(other.locator("#classes")).to_have_value("red, or so\n100 % blue & square?")
    expect(other.locator("#template")).to_have_value("a {} thing")
    other.click("#classify-samples")
    shown = classified(classify, 36)
    assert classified(other, 36) == shown
    classify.click("#tab-compare")
    classify.go_back()
    expect(classify.locator("#part-classify")).to_be_visible()
    assert classified(classify, 36) == shown
    classify.fill("#template", "")
    classify.wait_for_url("**&prompt=")
    expect(ready(visit(classify.url).page).locator("#template")).to_have_value("")


def test_the_back_key_goes_through_what_was_shown(compare: Page, tmp_path: Path) -> None:
    compare.click("[data-sample='blue-square.jpg']")
    (tmp_path / "mine.jpg").write_bytes((SAMPLES / "green-star.jpg").read_bytes())
    compare.set_input_files("#choose-file", tmp_path / "mine.jpg")
    expect(compare.locator("#picture-name")).to_contain_text("mine.jpg")
    compare.click("#tab-search")
    add_samples(compare)
    for text in ("a", "a red", "a red star"):
        compare.fill("#query", text)
        expect(compare.locator("#found-text")).to_contain_text(f"“{text}”")
    compare.locator("[data-name='red-star.jpg']").click()
    compare.get_by_role("button", name="Find similar").click()
    expect(compare.locator("#like-name")).to_have_text("Like red-star.jpg")
    compare.get_by_label("Map", exact=True).check(force=True)
    compare.go_back()
    expect(compare.locator("#results")).to_be_visible()
    expect(compare.locator("#like-name")).to_have_text("Like red-star.jpg")
    compare.go_back()
    expect(compare.locator("#found-text")).to_have_text("36 pictures, “a red star” first")
    expect(compare.locator("#query")).to_have_value("a red star")
    compare.go_back()
    expect(compare.locator("#found-text")).to_have_text("36 pictures")
    compare.go_back()
    expect(compare.locator("#part-compare")).to_be_visible()
    expect(compare.locator("#picture-name")).to_contain_text("mine.jpg")
    compare.go_back()
    expect(compare.locator("#picture-name")).to_have_text("A blue square")
    expect(best(compare)).to_have_value("a blue square")
    compare.go_back()
    expect(best(compare)).to_have_value("a red circle")
    for _ in range(3):
        compare.go_forward()
    expect(compare.locator("#part-search")).to_be_visible()


def test_a_browser_that_takes_no_more_changes_of_the_address(compare: Page) -> None:
    """Safari takes 100 in 30 seconds."""
    compare.evaluate(
        """() => {
            history.replaceState = history.pushState = () => { throw new DOMException("too many", "SecurityError"); };
        }"""
    )
    label(compare, 1).fill("a red ring")
    assert "a red ring" in scores(compare)
    compare.click("#tab-search")
    expect(compare.locator("#part-search")).to_be_visible()


@pytest.mark.parametrize("part", ["compare", "search", "classify"])
def test_an_address_does_not_scroll(visit: Callable[..., Visit], base_url: str, part: str) -> None:
    """What a fragment names, the browser scrolls to."""
    page = visit(base_url).page
    assert page.locator(f"#{part}").count() == 0


@pytest.mark.parametrize("fragment", ["nope", "compare?sample=nope.jpg&url=nope&model=nope&picture=x", "search?like=x"])
def test_an_address_of_what_is_not_there_shows_the_beginning(
    visit: Callable[..., Visit], base_url: str, fragment: str
) -> None:
    page = visit(f"{base_url}/#{fragment}").page
    page.locator("#tab-compare").click()
    expect(best(page)).to_have_value("a red circle")
