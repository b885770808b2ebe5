"""Cosines and percentages of labels, and the bars that show them."""

import re

import httpx2
import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.e2e.page.actions import SAMPLES
from tests.e2e.page.shown import best, label, scores
from tests.pictures import base64_image

pytestmark = pytest.mark.triton


def bars(page: Page) -> list[tuple[float, float]]:
    """Each bar's ends, in CSS pixels from the left end of its track, once they have stopped growing."""
    page.wait_for_timeout(400)
    return [
        tuple(ends)
        for ends in page.evaluate(
            """() => [...document.querySelectorAll("#labels .track")].map((track) => {
                const [whole, fill] = [track, track.firstChild].map((one) => one.getBoundingClientRect());
                return [fill.left - whole.left, fill.right - whole.left];
            })"""
        )
    ]


def cosines(base_url: str, picture: bytes, labels: list[str]) -> list[float]:
    """The interface's own word on it."""
    body = {"subject": base64_image(picture), "prompt": labels}
    answer = httpx2.post(f"{base_url}/perception_encoder/compare", json=body)
    return answer.json()["similarity"]  # type: ignore[no-any-return]


def test_a_picture_and_labels_are_compared_as_one_types(compare: Page, base_url: str) -> None:
    assert best(compare).input_value() == "a red circle"
    compare.click("[data-sample='blue-square.jpg']")
    expect(best(compare)).to_have_value("a blue square")
    label(compare, 4).fill("blue")
    expect(compare.locator("#labels li").nth(3).locator(".value")).to_have_text(re.compile(r"\d"))
    shown = scores(compare)
    told = cosines(base_url, (SAMPLES / "blue-square.jpg").read_bytes(), list(shown))
    assert list(shown.values()) == pytest.approx(told, abs=6e-4)
    expect(compare.locator("#best")).to_have_text(re.compile("Best: (a )?blue"))


def test_percentages_are_a_softmax_at_the_models_own_scale(compare: Page, base_url: str) -> None:
    scale = float(httpx2.get(f"{base_url}/info").json()["models"]["PE-Demo-T8-64"]["logit_scale"])
    label(compare, 2).fill("a red ring")
    shown = scores(compare, "percent")
    logits = scale * np.array(cosines(base_url, (SAMPLES / "red-circle.jpg").read_bytes(), list(shown)))
    powers = np.exp(logits - logits.max())
    assert list(shown.values()) == pytest.approx(100 * powers / powers.sum(), abs=0.11)
    expect(compare.locator("#scale")).to_contain_text(f"{scale:.4g}")


def test_bars_start_at_zero_and_end_before_the_numbers(compare: Page) -> None:
    compare.get_by_label("Cosine", exact=True).check(force=True)
    cosine = list(scores(compare).values())
    assert min(cosine) < 0 < max(cosine)
    shown = bars(compare)
    zeros = [left if value > 0 else right for value, (left, right) in zip(cosine, shown, strict=True)]
    assert zeros == pytest.approx([zeros[0]] * len(zeros), abs=1)
    long = [
        (right - left) / abs(value) for value, (left, right) in zip(cosine, shown, strict=True) if abs(value) > 0.05
    ]
    assert long == pytest.approx([long[0]] * len(long), rel=0.03)
    for row in compare.locator("#labels li").all():
        fill, numbers = (row.locator(part).bounding_box() for part in (".fill", ".percent"))
        assert fill is not None
        assert numbers is not None
        assert fill["x"] + fill["width"] <= numbers["x"]
    compare.get_by_label("Percent", exact=True).check(force=True)
    whole = compare.locator(".track").first.evaluate("track => track.clientWidth")
    for (left, right), percent in zip(bars(compare), scores(compare, "percent").values(), strict=True):
        assert (left, right - left) == pytest.approx((0, whole * percent / 100), abs=1)
