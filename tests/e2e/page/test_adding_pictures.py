"""Adding many pictures to Search and to Classify: from a folder, by drop, by paste, with progress."""

from itertools import count
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.page.actions import give, numbered
from tests.e2e.page.shown import class_counts, classified, results, table_rows

pytestmark = pytest.mark.triton


def let_three_through(page: Page) -> None:
    """Send three requests with pictures. All later ones hang until they are cancelled."""
    requests = count()
    page.route("**/embed_image*", lambda route: route.continue_() if next(requests) < 3 else None)


def test_a_folder_for_the_search_with_a_broken_and_a_too_large_file(search: Page, tmp_path: Path) -> None:
    for name, data in numbered(40).items():
        (tmp_path / "inner").mkdir(exist_ok=True)
        (tmp_path / "inner" / name).write_bytes(data)
    (tmp_path / "inner/0171-broken.jpg").write_bytes(b"no picture at all")
    (tmp_path / "notes.txt").write_text("not sent")
    with (tmp_path / "large.png").open("wb") as large:
        large.truncate(65 * 2**20)
    search.set_input_files("#folder-files", tmp_path)
    expect(search.locator("#results li")).to_have_count(40)
    expect(search.locator("#search-trouble")).to_contain_text("2 left out. The first: ")
    assert any(name.endswith("/inner/000.png") for name in results(search))


def test_a_folder_to_classify_with_files_that_are_no_pictures(classify: Page, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    for name, data in numbered(40).items():
        (tmp_path / "inner" / name).write_bytes(data)
    (tmp_path / "inner/017-broken.jpg").write_bytes(b"no picture at all")
    (tmp_path / "inner/018-broken.jpg").write_bytes(b"nor this")
    (tmp_path / "notes.txt").write_text("not sent")
    with (tmp_path / "large.png").open("wb") as large:
        large.truncate(65 * 2**20)
    classify.set_input_files("#classify-folder-files", tmp_path)
    shown = classified(classify, 43)
    failed = {row["file"].rsplit("/", 1)[-1]: row["error"] for row in shown if "error" in row}
    assert failed == {
        "017-broken.jpg": "Could not load input image. Cause: Data is not image.",
        "018-broken.jpg": "Could not load input image. Cause: Data is not image.",
        "large.png": "The file is larger than the 67.1 MB that this server takes in one request.",
    }
    assert any(row["file"].endswith("/inner/000.png") for row in shown)
    expect(classify.locator("#classified-text")).to_have_text("43 pictures; 3 not classified")
    assert class_counts(classify)["Not classified"] == 3
    classify.click("th.similarity button")
    assert ["error" in row for row in table_rows(classify)] == [False] * 40 + [True] * 3
    classify.locator("#class-counts button").filter(has_text="Not classified").click()
    classified(classify, 3)


def test_a_drop_is_searched_through(search: Page) -> None:
    give(search, "drop", {"notes.txt": b"no"})
    expect(search.locator("#search-trouble")).to_have_text("There are no pictures among these files.")
    give(search, "drop", {**numbered(3), "notes.txt": b"no"})
    expect(search.locator("#results li")).to_have_count(3)
    expect(search.locator("#search-trouble")).to_be_hidden()


def test_pictures_are_pasted_into_the_search(search: Page) -> None:
    give(search, "paste", numbered(3))
    expect(search.locator("#results li")).to_have_count(3)
    give(search, "paste", {"like.png": numbered(3)["001.png"]}, "#query")
    expect(search.locator("#like-name")).to_have_text("Like like.png")
    assert results(search)[0] == "001.png"


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_pictures_to_classify_come_in_by(classify: Page, way: str) -> None:
    give(classify, way, {"notes.txt": b"no"})
    if way == "drop":
        expect(classify.locator("#classify-trouble")).to_have_text("There are no pictures among these files.")
    give(classify, way, {**numbered(3), "notes.txt": b"no"})
    assert [row["file"] for row in classified(classify, 3)] == ["000.png", "001.png", "002.png"]
    expect(classify.locator("#classify-trouble")).to_be_hidden()
    give(classify, way, numbered(3))
    expect(classify.locator("#classify-trouble")).to_have_text("These pictures are all here already.")


def test_adding_to_the_search_shows_how_far_it_is_and_can_be_cancelled(search: Page) -> None:
    let_three_through(search)
    give(search, "drop", numbered(100))
    expect(search.locator("#progress-text")).to_have_text("48 of 100 pictures")
    assert search.locator("#progress-bar").evaluate("bar => bar.value / bar.max") == pytest.approx(0.48)
    search.click("#cancel")
    expect(search.locator("#progress")).to_be_hidden()
    expect(search.locator("#results li")).to_have_count(48)
    expect(search.locator("#search-trouble")).to_be_hidden()


def test_adding_to_classify_shows_how_far_it_is_and_can_be_cancelled(classify: Page) -> None:
    let_three_through(classify)
    give(classify, "drop", numbered(100))
    expect(classify.locator("#classify-progress-text")).to_have_text("48 of 100 pictures")
    assert classify.locator("#classify-bar").evaluate("bar => bar.value / bar.max") == pytest.approx(0.48)
    classify.click("#classify-cancel")
    expect(classify.locator("#classify-progress")).to_be_hidden()
    expect(classify.locator("#classify-pictures")).to_be_focused()
    classified(classify, 48)
    expect(classify.locator("#classify-trouble")).to_be_hidden()
    classify.unroute("**/embed_image*")
    give(classify, "drop", numbered(100))  # those that are here are not sent again
    expect(classify.locator("#classified-text")).to_have_text("100 pictures")
