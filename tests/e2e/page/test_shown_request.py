"""The request that Compare shows, in curl and in Python: it runs as it is."""

import json
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.page.actions import SAMPLES, run_code
from tests.e2e.page.shown import label, scores

pytestmark = pytest.mark.triton

HOSTILE: Final = ['it\'s "100%" $HOME `id` \\n', "ein rotes Quadrat — 赤い四角 🟥", "-o /tmp/x", "a red circle"]


@pytest.mark.parametrize("language", ["curl", "python"])
def test_the_request_shown_runs_word_for_word(compare: Page, language: str, tmp_path: Path) -> None:
    for index, text in enumerate(HOSTILE, 1):
        label(compare, index).fill(text)
    shown = scores(compare)
    assert list(shown) == [text.strip() for text in HOSTILE]
    file = 'it\'s "mine".png'  # the browser may take any name
    data = (SAMPLES / "red-circle.jpg").read_bytes()
    (tmp_path / file).write_bytes(data)
    compare.set_input_files("#choose-file", tmp_path / file)
    expect(compare.locator("#picture-name")).to_contain_text("mine")
    compare.locator("#snippets summary").click()
    compare.get_by_label(language, exact=False).and_(compare.locator("[name=language]")).check(force=True)
    code = compare.locator("#snippet").inner_text()
    printed = run_code(code, language, tmp_path)
    told = list(scores(compare).values())
    if language == "curl":
        assert json.loads(printed)["similarity"] == pytest.approx(told, abs=6e-4)
    else:
        lines = [line.split("  ", 1) for line in printed.splitlines()]
        assert [text for _, text in lines] == list(shown)
        assert [float(value) for value, _ in lines] == pytest.approx(told, abs=6e-4)


@pytest.mark.parametrize("language", ["curl", "python"])
def test_the_request_with_a_sample_fetches_it_first(compare: Page, language: str, tmp_path: Path) -> None:
    compare.locator("#snippets summary").click()
    compare.locator(f"[name=language][value={language}]").check(force=True)
    run_code(compare.locator("#snippet").inner_text(), language, tmp_path)
    assert (tmp_path / "red-circle.jpg").read_bytes() == (SAMPLES / "red-circle.jpg").read_bytes()


def test_the_request_is_copied(compare: Page) -> None:
    compare.context.grant_permissions(["clipboard-read", "clipboard-write"])
    compare.locator("#snippets summary").click()
    compare.click("#copy")
    expect(compare.locator("#copy")).to_have_text("Copied")
    assert compare.evaluate("navigator.clipboard.readText()") == compare.locator("#snippet").inner_text()
