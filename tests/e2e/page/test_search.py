"""The tab Search: by words, by a picture, and what is kept in the browser."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.page.actions import SAMPLES, add_samples, give, numbered
from tests.e2e.page.shown import results

pytestmark = pytest.mark.triton


def test_pictures_are_added_searched_and_kept(search: Page) -> None:
    add_samples(search)
    search.fill("#query", "a green heart")
    expect(search.locator("#found-text")).to_have_text("36 pictures, “a green heart” first")
    assert results(search)[0] == "green-heart.jpg"
    search.reload()
    expect(search.locator("#results li")).to_have_count(36)
    expect(search.locator("#use-samples")).to_be_hidden()
    search.click("#clear")
    expect(search.locator("#found")).to_be_hidden()
    search.reload()
    expect(search.locator("#variant")).to_have_value("PE-Demo-T8-64")
    search.wait_for_timeout(200)
    expect(search.locator("#found")).to_be_hidden()


def test_search_by_a_picture(search: Page, tmp_path: Path) -> None:
    add_samples(search)
    search.locator("[data-name='purple-heart.jpg']").click()
    search.get_by_role("button", name="Find similar").click()  # one that is here: nothing is sent
    expect(search.locator("#like-name")).to_have_text("Like purple-heart.jpg")
    assert results(search)[0] == "purple-heart.jpg"
    assert "heart" in results(search)[1]
    assert search.locator("#results b").first.inner_text() == "1.000"
    search.click("#like-clear")
    expect(search.locator("#like")).to_be_hidden()
    (tmp_path / "mine.jpg").write_bytes((SAMPLES / "blue-ring.jpg").read_bytes())
    search.set_input_files("#query-file", tmp_path / "mine.jpg")
    expect(search.locator("#like-name")).to_have_text("Like mine.jpg")
    assert results(search)[0] == "blue-ring.jpg"


def test_clearing_is_for_this_model_and_can_be_undone(search: Page) -> None:
    add_samples(search)
    add = """async (variant) => (await import("./page/store.js")).save(
        [{id: "other", variant, name: "x", embedding: new Float32Array(4), thumbnail: null}])"""
    search.evaluate(add, "another model")
    count = "async (variant) => (await (await import('./page/store.js')).load(variant)).length"
    search.click("#clear")
    expect(search.locator("#undo-text")).to_have_text("36 pictures removed.")
    assert search.evaluate(count, "another model") == 1
    assert search.evaluate(count, "PE-Demo-T8-64") == 0
    expect(search.get_by_role("button", name="Undo")).to_be_focused()
    search.keyboard.press("Enter")
    expect(search.locator("#results li")).to_have_count(36)
    expect(search.locator("#undo")).to_be_hidden()
    search.reload()
    expect(search.locator("#results li")).to_have_count(36)
    search.click("#clear")
    give(search, "drop", numbered(2))  # what is added since is not undone
    expect(search.locator("#results li")).to_have_count(2)
    expect(search.locator("#undo")).to_be_hidden()


def test_each_picture_is_kept_without_the_rest_of_its_request(search: Page) -> None:
    add_samples(search)
    script = """async () => (await (await import("./page/store.js")).load("PE-Demo-T8-64"))
        .map(({embedding}) => [embedding.byteLength, embedding.buffer.byteLength])"""
    assert {alone == whole for alone, whole in search.evaluate(script)} == {True}
