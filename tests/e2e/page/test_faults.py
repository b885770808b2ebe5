"""Files that are no pictures or too large, and a server that does not answer."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.page.actions import SAMPLES, give, numbered
from tests.e2e.page.shown import best, classified, label, scores

pytestmark = pytest.mark.triton


def test_a_broken_file_is_called_that(compare: Page, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes((SAMPLES / "red-circle.jpg").read_bytes()[:300])
    compare.set_input_files("#choose-file", tmp_path / "broken.png")
    expect(compare.locator("#picture-trouble")).to_have_text("This file is not a picture that the server can read.")
    expect(compare.locator(".best")).to_have_count(0)
    compare.click("[data-sample='blue-square.jpg']")
    expect(compare.locator("#picture-trouble")).to_be_hidden()
    expect(best(compare)).to_have_value("a blue square")


def test_a_too_large_file_is_called_that(compare: Page, tmp_path: Path) -> None:
    with (tmp_path / "large.png").open("wb") as large:
        large.truncate(65 * 2**20)
    compare.set_input_files("#choose-file", tmp_path / "large.png")
    expect(compare.locator("#picture-trouble")).to_have_text("That is more than this server takes in one request.")


def test_what_is_dropped_may_be_no_picture(compare: Page) -> None:
    give(compare, "drop", {"notes.txt": b"no"})
    expect(compare.locator("#picture-trouble")).to_contain_text("no picture file")


def test_no_network_is_said_and_tried_again_in_compare(compare: Page) -> None:
    compare.context.set_offline(True)
    label(compare, 1).fill("a red ring")
    trouble = compare.locator("#labels-trouble")
    expect(trouble).to_contain_text("The server does not answer.")
    compare.context.set_offline(False)
    trouble.get_by_role("button", name="Try again").click()
    expect(trouble).to_be_hidden()
    assert "a red ring" in scores(compare)


def test_no_network_is_said_and_tried_again_in_classify(classify: Page) -> None:
    classify.context.set_offline(True)
    give(classify, "drop", numbered(2))
    trouble = classify.locator("#classify-trouble")
    expect(trouble).to_contain_text("The server does not answer.")
    expect(trouble).to_contain_text("2 pictures not added yet.")
    classify.context.set_offline(False)
    trouble.get_by_role("button", name="Try again").click()
    classified(classify, 2)
    expect(trouble).to_be_hidden()
