"""The panel of one picture of the search, and its way to Compare."""

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.page.actions import add_samples
from tests.e2e.page.shown import best, label, results

pytestmark = pytest.mark.triton


def test_the_panel_of_one_picture(search: Page) -> None:
    add_samples(search)
    search.fill("#query", "a purple heart")
    expect(search.locator("#found-text")).to_contain_text("purple heart")
    search.locator("#results button").first.click()
    panel = search.locator("#panel")
    expect(panel.locator("#panel-name")).to_have_text("purple-heart.jpg")
    expect(panel.locator("#panel-place")).to_have_text("1 of 36")
    assert search.locator("#results b").first.inner_text() in panel.locator("#panel-score").inner_text()
    box = panel.locator("#panel-picture").bounding_box()
    assert box is not None
    assert box["height"] > 300
    expect(panel.get_by_role("button", name="Previous")).to_be_disabled()
    search.keyboard.press("ArrowRight")
    expect(panel.locator("#panel-name")).to_have_text(results(search)[1])
    search.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    search.locator("[data-name='blue-ring.jpg']").click()
    expect(panel).to_be_visible()
    search.go_back()
    expect(panel).to_be_hidden()
    expect(search.locator("#found-text")).to_contain_text("purple heart")
    search.locator("[data-name='blue-ring.jpg']").click()
    search.mouse.click(5, 5)
    expect(panel).to_be_hidden()


@pytest.mark.parametrize("again", [False, True])
def test_a_picture_of_the_search_is_compared_with_words(search: Page, again: bool) -> None:
    add_samples(search)
    if again:  # the file is gone; its small copy and its embedding are there
        search.reload()
    asked: list[str] = []
    search.on("request", lambda request: asked.append(request.post_data or ""))
    search.locator("[data-name='blue-ring.jpg']").click()
    search.get_by_role("button", name="Compare with words").click()
    expect(search.locator("#picture-name")).to_contain_text("blue-ring.jpg")
    expect(search.locator("#picture")).to_be_visible()
    label(search, 2).fill("a blue ring")
    expect(best(search)).to_have_value("a blue ring")
    search.go_back()
    expect(search.locator("#results li")).to_have_count(36)
    sent = [body for body in asked if "blue-ring.jpg" in body]
    assert sent == []
