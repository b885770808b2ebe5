"""The page by axe, in both colour schemes; in high contrast; at 400 percent."""

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browsing import Visit
from tests.e2e.page.accessibility import assert_accessible
from tests.e2e.page.actions import add_samples, classify_samples, give, ready
from tests.e2e.page.shown import classified, label, overflow

pytestmark = pytest.mark.triton

# A dark page has the same elements, so only its colours are checked.
in_both_schemes = pytest.mark.parametrize(("scheme", "rules"), [("light", None), ("dark", ["color-contrast"])])


@in_both_schemes
def test_axe_finds_nothing_in_compare_and_search(
    visit: Callable[..., Visit], base_url: str, scheme: str, rules: list[str] | None
) -> None:
    page = visit(base_url, color_scheme=scheme).page
    page.wait_for_selector(".best")
    page.locator("#snippets summary").click()
    page.locator("#time summary").click()
    label(page, 1).fill("a blue heart")
    expect(page.locator("#no-match")).to_be_visible()
    page.get_by_label("Cosine", exact=True).check(force=True)
    assert_accessible(page, "compare", rules)
    page.locator("#demo").click()
    assert_accessible(page, "the demo", rules)
    page.keyboard.press("Escape")
    give(page, "drop", {"notes.txt": b"no"})
    expect(page.locator("#picture-trouble")).to_be_visible()
    assert_accessible(page, "compare with a trouble", rules)
    page.click("#tab-search")
    assert_accessible(page, "search, empty", rules)
    add_samples(page)
    page.fill("#query", "a heart")
    expect(page.locator("#found-text")).to_contain_text("heart")
    assert_accessible(page, "search", rules)
    page.locator("#results button").nth(1).click()
    assert_accessible(page, "the panel", rules)
    page.keyboard.press("Escape")
    page.get_by_label("Map", exact=True).check(force=True)
    page.locator("#map").focus()
    page.keyboard.press("ArrowRight")
    assert_accessible(page, "map", rules)
    page.locator("#clear").click()
    assert_accessible(page, "search, cleared", rules)


@in_both_schemes
def test_axe_finds_nothing_in_classify_and_the_exports(
    visit: Callable[..., Visit], base_url: str, scheme: str, rules: list[str] | None
) -> None:
    page = ready(visit(f"{base_url}/#classify", color_scheme=scheme).page)
    assert_accessible(page, "classify, empty", rules)
    classify_samples(page)
    give(page, "drop", {"broken.png": b"no picture"})
    classified(page, 37)
    page.click("th.probability button")
    page.locator("#class-counts button").nth(1).click()
    page.fill("#template", "none")
    expect(page.locator("#classes-trouble")).to_be_visible()
    assert_accessible(page, "classify with a table", rules)
    page.locator("#class-counts button").first.click()
    assert_accessible(page, "classify with an error", rules)
    page.click("#tab-search")
    add_samples(page)
    page.locator("#export").click()
    assert_accessible(page, "the exports", rules)


def test_bars_are_seen_in_the_colours_of_a_high_contrast(visit: Callable[..., Visit], base_url: str) -> None:
    page = visit(base_url, forced_colors="active").page
    page.wait_for_selector(".best")
    page.get_by_label("Cosine", exact=True).check(force=True)
    expect(page.locator(".track.negative")).not_to_have_count(0)
    page.wait_for_timeout(400)
    colours = page.eval_on_selector_all(
        "#labels .track",
        "tracks => tracks.flatMap(one => [one, one.firstChild]).map(one => getComputedStyle(one).backgroundColor)",
    )
    assert len(set(colours[1::2])) == 1
    assert not set(colours[1::2]) & set(colours[::2])


def test_zoomed_to_400_percent_nothing_has_to_be_scrolled_sideways(visit: Callable[..., Visit], base_url: str) -> None:
    """https://www.w3.org/WAI/WCAG22/Understanding/reflow.html: 320 CSS pixels."""
    page = visit(base_url, viewport={"width": 320, "height": 256}).page
    page.wait_for_selector(".best")
    for text in page.locator("#labels input").all():
        assert text.evaluate("input => input.clientWidth") > 100
    for part in ("compare", "search", "classify"):
        page.click(f"#tab-{part}")
        if part != "compare":
            page.locator(f"#part-{part}").get_by_role("button", name="Use the samples").click()
            expect(page.locator("#results li" if part == "search" else "#classified-table tbody tr")).to_have_count(36)
        assert overflow(page) <= 0, part
