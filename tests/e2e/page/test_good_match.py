"""What the page calls a good match, and what it calls no good match."""

import re
from itertools import product

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.e2e.page.actions import SAMPLES, add_samples
from tests.e2e.page.shown import best, label

pytestmark = pytest.mark.triton


def test_words_of_which_none_fits_are_called_that(compare: Page) -> None:
    for index, text in enumerate(["a blue square", "a cat", "a green heart", "an orange arrow"], 1):
        label(compare, index).fill(text)
    expect(compare.locator("#no-match")).to_be_visible()
    expect(compare.locator(".best")).to_have_count(0)
    expect(compare.locator("#best")).to_have_text(re.compile("^No good match. Nearest: "))
    label(compare, 4).fill("a red circle")
    expect(best(compare)).to_have_value("a red circle")
    expect(compare.locator("#no-match")).to_be_hidden()
    label(compare, 4).fill("an orange arrow")
    compare.get_by_role("button", name="Words for this sample").click()
    expect(best(compare)).to_have_value("a red circle")


def test_words_that_no_picture_fits(search: Page) -> None:
    add_samples(search)
    search.fill("#query", "a red heart")
    expect(search.locator("#found-text")).to_have_text(
        "No good match for “a red heart” among 36 pictures, it seems. The nearest first."
    )
    search.get_by_label("Map", exact=True).check(force=True)
    expect(search.locator("#map")).to_have_attribute("aria-label", "Map of 36 pictures")
    search.fill("#query", "a blue ring")
    expect(search.locator("#map")).to_have_attribute("aria-label", "Map of 36 pictures, 1 result outlined")


def test_what_fits_is_told_from_what_fits_by_half(compare: Page) -> None:
    """The threshold, on every sample with every combination of a colour and a shape."""
    files = sorted(path.stem for path in SAMPLES.glob("*-*.jpg"))
    pairs = list(product(*(sorted({file.split("-")[part] for file in files}) for part in (0, 1))))
    texts = [f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {shape}" for colour, shape in pairs]
    fits, good = compare.evaluate(
        """async ([files, texts]) => {
            const load = (name) => import(`./page/${name}.js`);
            const [fit, api, pictures] = await Promise.all(["fit", "api", "pictures"].map(load));
            const variant = "PE-Demo-T8-64";
            const ofTexts = await api.embedTexts(texts, {variant});
            const given = await Promise.all(files.map((name) => pictures.fetchSample({file: `${name}.jpg`})));
            const ofPictures = await api.embedPictures(given, {variant});
            const fits = await fit.fitOf({name: variant, kind: "drawn"});
            return [ofPictures.rows.map((picture) => ofTexts.rows.map((text) => fits(picture, text))), fit.GOOD.drawn];
        }""",
        [files, texts],
    )
    found: dict[int, list[float]] = {2: [], 1: [], 0: []}
    for file, row in zip(files, fits, strict=True):
        for pair, value in zip(pairs, row, strict=True):
            found[sum(word in pair for word in file.split("-"))].append(value)
    right, half, wrong = (np.array(found[count]) for count in (2, 1, 0))
    assert (len(right), len(half), len(wrong)) == (36, 576, 2304)
    assert right.min() > good > max(half.max(), wrong.max())


@pytest.mark.parametrize("alike", [0.0, 0.4, 0.9])
def test_how_well_the_references_fit_each_other_does_not_move_the_threshold(compare: Page, alike: float) -> None:
    """As many references as for real models. Pairs that have nothing to do with each other stay around zero by one."""
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((3, 200, 256))
    pictures, texts, others = noise / np.linalg.norm(noise, axis=-1, keepdims=True)
    texts[:6] = alike * pictures[:6] + np.sqrt(1 - alike**2) * texts[:6]
    found = compare.evaluate(
        """async ([pictures, texts, others]) => {
            const { fit } = await import("./page/fit.js");
            const fits = fit(pictures.slice(0, 6), texts.slice(0, 34));
            return others.map((picture, i) => fits(picture, texts[40 + i]));
        }""",
        [pictures.tolist(), texts.tolist(), others[:150].tolist()],
    )
    assert np.std(found) == pytest.approx(1.1, abs=0.3)
