"""The map of the pictures in Search."""

import io
import re

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from tests.e2e.page.actions import add_samples
from tests.e2e.page.shown import centre

pytestmark = pytest.mark.triton


def on_map(page: Page) -> Locator:
    """Show the samples on the map, and return the map."""
    add_samples(page)
    page.get_by_label("Map", exact=True).check(force=True)
    canvas = page.locator("#map")
    expect(canvas).to_have_attribute("aria-label", "Map of 36 pictures")
    return canvas


def test_the_map_shows_all_and_is_walked_by_keys(search: Page) -> None:
    canvas = on_map(search)
    search.wait_for_timeout(300)  # the copies are loaded
    drawn = np.asarray(Image.open(io.BytesIO(canvas.screenshot())).convert("RGB"), int)
    colourful = (drawn.max(axis=2) - drawn.min(axis=2) > 60).mean()
    assert colourful > 0.03
    canvas.focus()
    visited = set()
    for key in ["ArrowRight"] * 4 + ["ArrowDown"] * 4 + ["ArrowLeft"] * 4 + ["ArrowUp"] * 4:
        search.keyboard.press(key)
        visited.add(search.locator("#map-here").inner_text())
    assert len(visited) > 5
    here = search.locator("#map-here").inner_text()
    search.keyboard.press("Enter")
    expect(search.locator("#panel-name")).to_have_text(here)
    search.keyboard.press("Enter")
    expect(search.locator("#like-name")).to_have_text(f"Like {here}")
    expect(canvas).to_have_attribute("aria-label", "Map of 36 pictures, 6 results outlined")


def test_the_map_is_zoomed_and_moved_by_mouse_and_keys(search: Page) -> None:
    canvas = on_map(search)
    x, y = centre(canvas)
    search.get_by_role("button", name="Closer").click()
    expect(canvas).to_have_attribute("data-scale", "1.60")
    search.mouse.move(x, y)
    search.mouse.wheel(0, -300)  # it scrolls the page
    expect(canvas).to_have_attribute("data-scale", "1.60")
    search.keyboard.down("Control")
    search.mouse.wheel(0, -400)
    search.keyboard.up("Control")
    expect(canvas).to_have_attribute("data-scale", "3.56")
    before = canvas.screenshot()
    search.mouse.down()
    search.mouse.move(x + 120, y + 60, steps=4)
    search.mouse.up()
    expect(search.locator("#panel")).to_be_hidden()  # to drag is not to click
    search.mouse.move(1, 1)
    search.wait_for_timeout(100)
    assert canvas.screenshot() != before
    canvas.focus()
    for _ in range(12):
        search.keyboard.press("ArrowLeft")
    name, box = search.locator(".map-name").bounding_box(), canvas.bounding_box()
    assert name is not None
    assert box is not None
    assert box["x"] <= name["x"] <= name["x"] + name["width"] <= box["x"] + box["width"]
    search.keyboard.press("-")
    search.keyboard.press("0")
    expect(canvas).to_have_attribute("data-scale", "1.00")


def test_the_map_names_what_the_mouse_points_at(search: Page) -> None:
    canvas = on_map(search)
    canvas.focus()
    search.keyboard.press("ArrowRight")
    name = search.locator(".map-name")
    expect(name).to_have_text(re.compile(r"\.jpg$"))
    said, box = name.inner_text(), name.bounding_box()
    assert box is not None
    search.locator("#query").focus()
    expect(name).to_be_hidden()
    search.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] + 30)
    expect(name).to_have_text(said)
    search.mouse.down()
    search.mouse.up()
    expect(search.locator("#panel-name")).to_have_text(said)


def test_the_plane_is_that_of_the_two_principal_components(search: Page) -> None:
    rows = np.random.default_rng(3).normal(size=(200, 24)) * np.geomspace(8, 0.5, 24)
    script = "async (rows) => (await import('./page/maths.js')).plane(rows.map((row) => Float32Array.from(row)))"
    ours = np.array(search.evaluate(script, rows.tolist()))
    centred = rows - rows.mean(axis=0)
    theirs = centred @ np.linalg.svd(centred)[2][:2].T
    for axis in (0, 1):
        assert abs(np.corrcoef(ours[:, axis], theirs[:, axis])[0, 1]) > 0.999
    assert ours.std(axis=0) == pytest.approx(theirs.std(axis=0), rel=1e-3)
    for alike in ([[1.0, 0.0]] * 5, [[0.5, 0.5]], []):
        assert np.isfinite(np.array(search.evaluate(script, alike))).all()
