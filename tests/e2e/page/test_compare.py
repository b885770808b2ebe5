"""The tab Compare: one picture, and labels that are typed or pasted."""

import json
import re
import time
from pathlib import Path

import pytest
from playwright.sync_api import Page, Request, Route, expect

from tests.e2e.page.actions import SAMPLES, give
from tests.e2e.page.shown import best, label, scores

pytestmark = pytest.mark.triton


def test_every_sample_comes_with_labels_of_which_one_fits(compare: Page) -> None:
    for button in compare.locator("#samples button").all():
        button.click()
        name = button.locator("img").get_attribute("alt") or ""
        expect(best(compare)).to_have_value(name[0].lower() + name[1:])
        assert max(scores(compare, "percent").values()) > 90
    label(compare, 1).fill("a thing of my own")
    compare.click("[data-sample='red-circle.jpg']")
    expect(label(compare, 1)).to_have_value("a thing of my own")


@pytest.mark.parametrize("way", ["pick", "drop", "paste"])
def test_a_picture_comes_in_by(compare: Page, way: str, tmp_path: Path) -> None:
    data = (SAMPLES / "green-triangle.jpg").read_bytes()
    if way == "pick":
        (tmp_path / "mine.png").write_bytes(data)
        compare.set_input_files("#choose-file", tmp_path / "mine.png")
    else:
        give(compare, way, {"notes.txt": b"no", "mine.png": data})
    expect(compare.locator("#picture-name")).to_have_text("mine.png, 3 kB")
    label(compare, 1).fill("a green triangle")
    expect(best(compare)).to_have_value("a green triangle")


def test_typing_asks_once_it_pauses_and_a_late_answer_is_dropped(compare: Page) -> None:
    held: list[Route] = []
    asked: list[list[str]] = []
    dropped: list[tuple[list[str] | None, str | None]] = []

    def texts_of(request: Request) -> list[str] | None:
        """The texts that a request asks to embed, or None of another request."""
        return json.loads(request.post_data or "")["text"] if request.url.endswith("/embed_text") else None

    def hold_the_first(route: Route) -> None:
        texts = texts_of(route.request)
        if texts and len(texts) == 1:  # The others are the references of what fits.
            asked.append(texts)
        if texts == ["a red"]:
            held.append(route)
        else:
            route.continue_()

    def type_quickly(*texts: str) -> None:
        """No slower than the debounce, however busy the machine is."""
        label(compare, 4).evaluate(
            """(input, texts) => texts.forEach((text) => {
                input.value = text;
                input.dispatchEvent(new Event("input"));
            })""",
            texts,
        )

    compare.route("**/embed_text", hold_the_first)
    compare.on("requestfailed", lambda request: dropped.append((texts_of(request), request.failure)))
    # The page may ask for its references at any time, so each request is recognised by its text.
    with compare.expect_request(lambda request: texts_of(request) == ["a red"]):
        type_quickly("a", "a r", "a red")
    with compare.expect_response(lambda response: texts_of(response.request) == ["a red ring"]):
        type_quickly("a red r", "a red ring")
    expect(compare.locator("#labels li").nth(3).locator(".value")).to_have_text(re.compile(r"\d"))
    assert len(held) == 1
    assert asked == [["a red"], ["a red ring"]]
    assert dropped == [(["a red"], "net::ERR_ABORTED")]


def test_several_lines_are_several_labels(compare: Page) -> None:
    label(compare, 4).fill("")
    label(compare, 4).focus()
    compare.evaluate(
        """() => {
            const transfer = new DataTransfer();
            transfer.setData("text", "a red ring\\r\\n\\n a pink heart \\n");
            document.activeElement.dispatchEvent(new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true}));
        }"""
    )
    assert list(scores(compare))[3:] == ["a red ring", "a pink heart"]


def test_a_label_that_the_model_does_not_read_to_its_end_is_marked(compare: Page) -> None:
    label(compare, 1).fill("dog " * 40)
    expect(compare.locator("#cut")).to_have_text("The model reads only the beginning of label 1.")


def test_the_time_is_one_line_that_opens_by_stage(compare: Page) -> None:
    label(compare, 1).fill(f"something new {time.time()}")
    scores(compare)
    line = compare.locator("#time summary")
    expect(line).to_have_text(re.compile(r"^\s*Time: Picture \d+ ms, 1 label \d+ ms\s*$"))
    expect(compare.locator("#timing")).to_be_hidden()
    line.click()
    picture, labels = compare.locator("#timing > div").all()
    for name in ("decode", "preprocess", "encode", "rest of the server", "network and browser"):
        assert re.search(rf"{name} \d+\.\d ms", picture.inner_text())
    for name in ("tokenize", "encode"):
        assert re.search(rf"{name} \d+\.\d ms", labels.inner_text())
