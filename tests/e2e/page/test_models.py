"""A server of several models, and what the page says about the demo."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Page, expect

from tests.browsing import Visit
from tests.e2e.page.actions import add_samples, give, numbered
from tests.e2e.page.shown import best, classified, scores
from tests.running import PeServe

pytestmark = pytest.mark.triton

ROOT: Final = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of two models: the demo, and Tiny, which tells no logit scale."""
    folder = tmp_path_factory.mktemp("both")
    for model in ("Tiny-vision", "Tiny-text"):
        shutil.copytree(ROOT / "tests/deploy/models" / model, folder / "models" / model)
    for model in ("PE-Demo-T8-64-vision", "PE-Demo-T8-64-text"):
        shutil.copytree(ROOT / "model_repository" / model, folder / "models" / model)
    stack = PeServe(folder, "--port", "0", "--repository", folder / "models")
    try:
        yield stack.wait_until_ready()
        stack.stop()
    finally:
        stack.kill()


def test_each_of_several_models_has_its_own_pictures(visit: Callable[..., Visit], both: str) -> None:
    page = visit(both).page
    expect(page.locator("#variant")).to_have_value("Tiny")  # what is not the demo comes first
    page.wait_for_selector(".best")
    expect(page.locator("#picture-name")).to_have_text("A cat's face")
    expect(page.locator("#demo")).to_be_hidden()
    expect(page.get_by_label("Percent")).to_be_disabled()  # it does not tell its logit scale
    assert len(scores(page)) == 4
    page.click("#tab-search")
    page.click("#use-samples")
    expect(page.locator("#found-text")).to_have_text("6 pictures")
    page.select_option("#variant", "PE-Demo-T8-64")
    expect(page.locator("#found")).to_be_hidden()
    add_samples(page)
    page.select_option("#variant", "Tiny")
    expect(page.locator("#found-text")).to_have_text("6 pictures")
    page.click("#tab-compare")
    page.select_option("#variant", "PE-Demo-T8-64")
    page.click("[data-sample='yellow-star.jpg']")
    expect(best(page)).to_have_value("a yellow star")
    other = visit(page.url).page
    expect(other.locator("#variant")).to_have_value("PE-Demo-T8-64")
    expect(best(other)).to_have_value("a yellow star")
    other.locator("#demo").click()
    other.get_by_role("button", name="Use Tiny").click()
    expect(other.locator("#picture-name")).to_have_text("A cat's face")
    expect(other.locator("#variant")).to_have_value("Tiny")
    expect(page.get_by_label("Percent")).to_be_enabled()


def test_each_of_several_models_classifies_what_is_there(visit: Callable[..., Visit], both: str) -> None:
    """What is here is embedded anew by the other model; without a logit scale there are no probabilities."""
    page = visit(f"{both}/#classify").page
    expect(page.locator("#variant")).to_have_value("Tiny")
    give(page, "drop", numbered(5))
    shown = classified(page, 5)
    assert {row["probability"] for row in shown} == {""}
    expect(page.locator("#classified-note")).to_contain_text("no probabilities")
    page.select_option("#variant", "PE-Demo-T8-64")
    expect(page.locator("#classes")).to_have_value(re.compile("^circle\n"))
    shown = classified(page, 5)
    assert all(row["probability"].endswith("%") for row in shown)


def test_the_badge_of_the_demo_says_how_to_get_the_real_model(compare: Page) -> None:
    compare.locator("#demo").click()
    dialog = compare.get_by_role("dialog")
    expect(dialog).to_contain_text("A demonstration model trained on drawn shapes")
    for command in dialog.locator("pre").inner_text().splitlines():
        program = command.split()[0].removeprefix(".venv-export/bin/")
        assert program in (ROOT / "README.md").read_text()
    expect(dialog).to_contain_text("PE-Core-L14-336")
    compare.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(compare.locator("#demo")).to_be_focused()
