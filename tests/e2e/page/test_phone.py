"""The page on a phone, by touch."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browsing import Visit
from tests.e2e.page.accessibility import assert_accessible
from tests.e2e.page.actions import give, numbered, ready, write_classes
from tests.e2e.page.shown import centre, classified, overflow

pytestmark = pytest.mark.triton


def test_compare_search_and_map_on_a_phone(
    visit: Callable[..., Visit], device: tuple[Browser, dict[str, Any]], base_url: str
) -> None:
    page = visit(base_url, **device[1]).page
    page.wait_for_selector(".best")
    assert overflow(page) == 0
    last = page.locator("#labels .value").last.bounding_box()
    assert last is not None
    assert last["y"] + last["height"] < page.evaluate("innerHeight")  # the result is seen with the picture
    with page.expect_file_chooser():
        page.get_by_role("button", name="Take a photo").tap()
    assert_buttons_fit_a_finger(page, "compare")
    page.locator("#demo").tap()
    assert page.locator("#demo-dialog").evaluate("dialog => dialog.scrollWidth - dialog.clientWidth") == 0
    page.keyboard.press("Escape")
    page.locator("#tab-search").tap()
    expect(page.locator("#choose-folder")).to_be_hidden()
    page.locator("#use-samples").tap()
    expect(page.locator("#results li")).to_have_count(36)
    page.fill("#query", "x" * 400)
    expect(page.locator("#found-text")).to_contain_text("xxx")
    assert overflow(page) == 0
    page.fill("#query", "")
    assert_accessible(page, "search on a phone")
    page.locator("#results button").first.tap()
    expect(page.locator("#panel")).to_be_visible()
    assert overflow(page) == 0
    assert_accessible(page, "the panel on a phone")
    page.get_by_role("button", name="Close").tap()
    page.get_by_label("Map", exact=True).check(force=True)
    canvas = page.locator("#map")
    pinch(page, canvas, 40, 100)
    expect(canvas).to_have_attribute("data-scale", "2.50")
    expect(page.locator("#panel")).to_be_hidden()
    assert_accessible(page, "the map on a phone")


def test_classify_on_a_phone(
    visit: Callable[..., Visit], device: tuple[Browser, dict[str, Any]], base_url: str
) -> None:
    page = ready(visit(f"{base_url}/#classify", **device[1]).page)
    assert overflow(page) == 0
    expect(page.locator("#classify-folder")).to_be_hidden()
    page.locator("#classify-samples").tap()
    classified(page, 36)
    long = "a" * 60 + " " + "b" * 60 + ".png"
    give(page, "drop", {long: b"no picture", **numbered(1)})
    classified(page, 38)
    write_classes(page, "circle\n" + "x" * 80)
    assert overflow(page) == 0
    assert_buttons_fit_a_finger(page, "classify")
    box = page.locator("#class-counts").bounding_box()
    assert box
    assert box["y"] < 839, "the counts are on the first screen"
    page.locator("th.similarity button").tap()
    expect(page.locator("th.similarity")).to_have_attribute("aria-sort", "descending")
    snapshot = page.locator("#classified-table").aria_snapshot()
    assert '- columnheader "Similarity"' in snapshot  # however it is laid out, it is a table
    assert "- cell" in snapshot
    assert_accessible(page, "classify on a phone")


def assert_buttons_fit_a_finger(page: Page, part: str) -> None:
    for button in page.locator(f"#part-{part} button:visible").all():
        box = button.bounding_box()
        assert box, button
        assert min(box["width"], box["height"]) >= 40, button.inner_html()


def pinch(page: Page, canvas: Locator, start: float, end: float) -> None:
    """Two fingers go apart, from `start` to `end` CSS pixels on each side of the middle."""
    x, y = centre(canvas)
    fingers = page.context.new_cdp_session(page)
    for kind, apart in [("touchStart", start), *[("touchMove", start + (end - start) * i / 6) for i in range(1, 7)]]:
        points = [{"x": x + side * apart, "y": y, "id": side} for side in (-1, 1)]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    fingers.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
