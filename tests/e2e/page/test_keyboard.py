"""The page by keyboard alone."""

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.page.shown import best, classified, label, scores

pytestmark = pytest.mark.triton


def test_compare_and_search_work_by_keyboard(compare: Page) -> None:
    focused = """(({id, ariaLabel, dataset, name, tagName}) => id || ariaLabel || dataset.sample || name || tagName)
        (document.activeElement)"""
    compare.keyboard.press("Tab")
    assert compare.evaluate("document.activeElement.className") == "skip"
    compare.keyboard.press("Enter")
    reached = []
    for _ in range(40):
        compare.keyboard.press("Tab")
        reached.append(compare.evaluate(focused))
        outline = compare.evaluate(
            "getComputedStyle(document.activeElement.closest('.bars li, label') ?? document.activeElement).outlineStyle"
        )
        assert reached[-1] == "BODY" or outline != "none" or reached[-1] in ("scores", "language"), reached[-1]
        if reached[-1] == "SUMMARY":
            break
    for needed in ("choose", "address", "blue-square.jpg", "scores", "Label 1", "Remove label 4", "add-label"):
        assert needed in reached
    compare.locator("[data-sample='green-triangle.jpg']").focus()
    compare.keyboard.press("Enter")
    expect(best(compare)).to_have_value("a green triangle")
    label(compare, 2).focus()
    compare.keyboard.press("Enter")
    compare.keyboard.type("a green thing")
    expect(label(compare, 3)).to_have_value("a green thing")
    assert "a green thing" in scores(compare)
    compare.keyboard.press("ArrowUp")
    expect(label(compare, 2)).to_be_focused()
    compare.keyboard.press("ArrowDown")
    for _ in "a green thing":
        compare.keyboard.press("Backspace")
    compare.keyboard.press("Backspace")
    expect(compare.locator("#labels li")).to_have_count(4)
    expect(label(compare, 2)).to_be_focused()
    compare.locator("[name=scores]").first.focus()
    compare.keyboard.press("ArrowRight")
    expect(compare.get_by_label("Cosine", exact=True)).to_be_checked()
    compare.locator("#tab-compare").focus()
    compare.keyboard.press("ArrowRight")
    expect(compare.locator("#tab-search")).to_be_focused()
    expect(compare.locator("#part-search")).to_be_visible()
    compare.keyboard.press("Tab")
    while compare.evaluate(focused) != "use-samples":
        compare.keyboard.press("Tab")
    compare.keyboard.press("Enter")
    expect(compare.locator("#results li")).to_have_count(36)


def test_classify_works_by_keyboard(classify: Page) -> None:
    classify.locator("#tab-search").focus()
    classify.keyboard.press("ArrowRight")
    expect(classify.locator("#tab-classify")).to_be_focused()
    classify.keyboard.press("ArrowRight")  # around
    expect(classify.locator("#tab-compare")).to_be_focused()
    classify.keyboard.press("ArrowLeft")
    tab_to(classify, "#classify-samples")
    classify.keyboard.press("Enter")
    classified(classify, 36)
    tab_to(classify, "#classes")
    classify.keyboard.press("ControlOrMeta+A")
    classify.keyboard.type("red\nblue")
    expect(classify.locator("#class-counts button")).to_have_count(3)
    tab_to(classify, "#class-counts button:nth-child(2)")
    classify.keyboard.press("Space")
    pressed = classify.locator("#class-counts [aria-pressed='true']")
    expect(pressed).to_contain_text("red")
    expect(pressed).to_be_focused()
    tab_to(classify, "th.probability button")
    classify.keyboard.press("Enter")
    expect(classify.locator("th.probability")).to_have_attribute("aria-sort", "descending")
    expect(classify.locator("th.probability button")).to_be_focused()


def tab_to(page: Page, selector: str) -> None:
    """By the Tab key alone; whatever has the focus on the way shows it."""
    for _ in range(30):
        page.keyboard.press("Tab")
        focused = page.evaluate("document.activeElement.outerHTML")
        if page.evaluate("document.activeElement !== document.body"):
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none", focused
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{selector} is not reached")
