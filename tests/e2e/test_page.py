"""The playground in a real browser, against the real stack."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, Request, Route, expect

from gateway.http import page as playground
from tests.browsing import Visit
from tests.pictures import base64_image, encoded
from tests.running import PeServe

pytestmark = pytest.mark.triton

ROOT = Path(__file__).parents[2]
SAMPLES = Path(playground.__file__).parent / "static/samples"
HOSTILE = ['it\'s "100%" $HOME `id` \\n', "ein rotes Quadrat — 赤い四角 🟥", "-o /tmp/x", "a red circle"]
KEY = "open-sesame"


@pytest.fixture
def compare(visit: Callable[..., Visit], base_url: str) -> Page:
    page = visit(base_url).page
    page.wait_for_selector(".best")
    return page


@pytest.fixture
def search(visit: Callable[..., Visit], base_url: str) -> Page:
    page = visit(f"{base_url}/#search").page
    expect(page.locator("#variant")).to_have_value("PE-Demo-T8-64")
    return page


def label(page: Page, index: int) -> Any:
    return page.get_by_label(f"Label {index}", exact=True)


def scores(page: Page, kind: str = "cosine") -> dict[str, float]:
    """What each label has (`cosine`, or `percent`), once every label has something."""
    rows = page.locator("#labels li")
    expect(page.locator("#labels .value").filter(has_text=re.compile(r"\d"))).to_have_count(rows.count())
    return {row.locator("input").input_value(): number(row.locator(f".{kind}").inner_text()) for row in rows.all()}


def number(text: str) -> float:
    return float(text.replace("−", "-").removesuffix(" %"))


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


def best(page: Page) -> Any:
    return page.locator(".best input")


def cosines(base_url: str, picture: bytes, labels: list[str]) -> list[float]:
    """The interface's own word on it."""
    body = {"subject": base64_image(picture), "prompt": labels}
    answer = httpx2.post(f"{base_url}/perception_encoder/compare", json=body)
    return answer.json()["similarity"]  # type: ignore[no-any-return]


def add_samples(page: Page) -> None:
    page.click("#use-samples")
    expect(page.locator("#results li")).to_have_count(36)
    expect(page.locator("#progress")).to_be_hidden()


def results(page: Page) -> list[str]:
    return [button.get_attribute("data-name") or "" for button in page.locator("#results button").all()]


def give(page: Page, kind: str, files: dict[str, bytes], target: str = "body") -> None:
    """Drops or pastes files: the events that a browser sends, around a real DataTransfer."""
    page.evaluate(
        """([kind, files, target]) => {
            const transfer = new DataTransfer();
            for (const [name, data] of Object.entries(files)) {
                const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
                transfer.items.add(new File([bytes], name, {type: name.endsWith("txt") ? "text/plain" : "image/png"}));
            }
            const options = {bubbles: true, cancelable: true};
            const event = kind === "paste"
                ? new ClipboardEvent("paste", {...options, clipboardData: transfer})
                : new DragEvent(kind, {...options, dataTransfer: transfer});
            document.querySelector(target).dispatchEvent(event);
        }""",
        [kind, {name: base64.b64encode(data).decode() for name, data in files.items()}, target],
    )


def numbered(count: int) -> dict[str, bytes]:
    """Small pictures, all different."""
    rng = np.random.default_rng(0)
    return {f"{i:03}.png": encoded(Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8))) for i in range(count)}


# -- compare


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


def test_every_sample_comes_with_labels_of_which_one_fits(compare: Page) -> None:
    for button in compare.locator("#samples button").all():
        button.click()
        name = button.locator("img").get_attribute("alt") or ""
        expect(best(compare)).to_have_value(name[0].lower() + name[1:])
        assert max(scores(compare, "percent").values()) > 90
    label(compare, 1).fill("a thing of my own")
    compare.click("[data-sample='red-circle.jpg']")
    expect(label(compare, 1)).to_have_value("a thing of my own")


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
    command = ["bash", "-c", code] if language == "curl" else [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 0, run.stderr
    told = list(scores(compare).values())
    if language == "curl":
        assert json.loads(run.stdout)["similarity"] == pytest.approx(told, abs=6e-4)
    else:
        lines = [line.split("  ", 1) for line in run.stdout.splitlines()]
        assert [text for _, text in lines] == list(shown)
        assert [float(value) for value, _ in lines] == pytest.approx(told, abs=6e-4)


@pytest.mark.parametrize("language", ["curl", "python"])
def test_the_request_with_a_sample_fetches_it_first(compare: Page, language: str, tmp_path: Path) -> None:
    compare.locator("#snippets summary").click()
    compare.locator(f"[name=language][value={language}]").check(force=True)
    code = compare.locator("#snippet").inner_text()
    command = ["bash", "-c", code] if language == "curl" else [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "red-circle.jpg").read_bytes() == (SAMPLES / "red-circle.jpg").read_bytes()


def test_the_request_is_copied(compare: Page) -> None:
    compare.context.grant_permissions(["clipboard-read", "clipboard-write"])
    compare.locator("#snippets summary").click()
    compare.click("#copy")
    expect(compare.locator("#copy")).to_have_text("Copied")
    assert compare.evaluate("navigator.clipboard.readText()") == compare.locator("#snippet").inner_text()


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


def test_a_label_that_the_model_does_not_read_to_its_end_is_marked(compare: Page) -> None:
    label(compare, 1).fill("dog " * 40)
    expect(compare.locator("#cut")).to_have_text("The model reads only the beginning of label 1.")


# -- search


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


def test_search_by_a_picture(search: Page, base_url: str, tmp_path: Path) -> None:
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


def test_a_folder_with_a_broken_and_a_too_large_file(search: Page, tmp_path: Path) -> None:
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


def test_a_drop_is_searched_through(search: Page) -> None:
    give(search, "drop", {"notes.txt": b"no"})
    expect(search.locator("#search-trouble")).to_have_text("There are no pictures among these files.")
    give(search, "drop", {**numbered(3), "notes.txt": b"no"})
    expect(search.locator("#results li")).to_have_count(3)
    expect(search.locator("#search-trouble")).to_be_hidden()


def test_adding_shows_how_far_it_is_and_can_be_cancelled(search: Page) -> None:
    seen = 0

    def let_three_through(route: Route) -> None:
        nonlocal seen
        seen += 1
        if seen <= 3:
            route.continue_()  # the others hang until they are cancelled

    search.route("**/embed_image*", let_three_through)
    give(search, "drop", numbered(100))
    expect(search.locator("#progress-text")).to_have_text("48 of 100 pictures")
    assert search.locator("#progress-bar").evaluate("bar => bar.value / bar.max") == pytest.approx(0.48)
    search.click("#cancel")
    expect(search.locator("#progress")).to_be_hidden()
    expect(search.locator("#results li")).to_have_count(48)
    expect(search.locator("#search-trouble")).to_be_hidden()


def test_the_map_shows_all_and_is_walked_by_keys(search: Page) -> None:
    add_samples(search)
    search.get_by_label("Map", exact=True).check(force=True)
    canvas = search.locator("#map")
    expect(canvas).to_have_attribute("aria-label", "Map of 36 pictures")
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


def test_waits_are_read_as_seconds_and_as_dates(search: Page) -> None:
    script = """async ([header, now]) => (await import('./page/api.js')).retryAfter(header, Date.parse(now))"""
    now = "Tue, 24 Nov 2026 12:00:00 GMT"
    for header, seconds in {
        "3": 3,
        "Tue, 24 Nov 2026 12:00:07 GMT": 7,
        "Tue, 24 Nov 2026 11:00:00 GMT": 0,
        "86400": 30,
        "soon": 1,
        None: 1,
    }.items():
        assert search.evaluate(script, [header, now]) == seconds, header


# -- addresses


def share(page: Page, visit: Callable[..., Visit]) -> Page:
    """What somebody else sees at the address that is shown."""
    return visit(page.url).page


def test_a_comparison_can_be_shared(compare: Page, visit: Callable[..., Visit]) -> None:
    assert "#" not in compare.url
    compare.click("[data-sample='blue-square.jpg']")
    label(compare, 1).fill("100 % blue & square?")
    shown = scores(compare)
    other = share(compare, visit)
    expect(other.locator("#picture-name")).to_have_text("A blue square")
    expect(label(other, 4)).to_have_value(list(shown)[3])
    assert scores(other) == shown
    other.get_by_label("Cosine", exact=True).check(force=True)
    expect(share(other, visit).get_by_label("Cosine", exact=True)).to_be_checked()


def test_the_back_key_goes_through_what_was_shown(compare: Page, tmp_path: Path) -> None:
    compare.click("[data-sample='blue-square.jpg']")
    (tmp_path / "mine.jpg").write_bytes((SAMPLES / "green-star.jpg").read_bytes())
    compare.set_input_files("#choose-file", tmp_path / "mine.jpg")
    expect(compare.locator("#picture-name")).to_contain_text("mine.jpg")
    compare.click("#tab-search")
    add_samples(compare)
    for text in ("a", "a red", "a red star"):
        compare.fill("#query", text)
        expect(compare.locator("#found-text")).to_contain_text(f"“{text}”")
    compare.locator("[data-name='red-star.jpg']").click()
    compare.get_by_role("button", name="Find similar").click()
    expect(compare.locator("#like-name")).to_have_text("Like red-star.jpg")
    compare.get_by_label("Map", exact=True).check(force=True)
    compare.go_back()
    expect(compare.locator("#results")).to_be_visible()
    expect(compare.locator("#like-name")).to_have_text("Like red-star.jpg")
    compare.go_back()
    expect(compare.locator("#found-text")).to_have_text("36 pictures, “a red star” first")
    expect(compare.locator("#query")).to_have_value("a red star")
    compare.go_back()
    expect(compare.locator("#found-text")).to_have_text("36 pictures")
    compare.go_back()
    expect(compare.locator("#part-compare")).to_be_visible()
    expect(compare.locator("#picture-name")).to_contain_text("mine.jpg")
    compare.go_back()
    expect(compare.locator("#picture-name")).to_have_text("A blue square")
    expect(best(compare)).to_have_value("a blue square")
    compare.go_back()
    expect(best(compare)).to_have_value("a red circle")
    for _ in range(3):
        compare.go_forward()
    expect(compare.locator("#part-search")).to_be_visible()


def test_a_search_can_be_shared_with_who_has_the_pictures(search: Page) -> None:
    add_samples(search)
    search.fill("#query", "a green heart")
    expect(search.locator("#found-text")).to_contain_text("a green heart")
    search.get_by_label("Map", exact=True).check(force=True)
    other = search.context.new_page()
    other.goto(search.url)
    expect(other.locator("#found-text")).to_have_text("36 pictures, “a green heart” first")
    expect(other.locator("#map")).to_have_attribute("aria-label", re.compile("36 pictures, 1 result outlined"))


def test_a_browser_that_takes_no_more_changes_of_the_address(compare: Page) -> None:
    """Safari takes 100 in 30 seconds."""
    compare.evaluate(
        """() => {
            history.replaceState = history.pushState = () => { throw new DOMException("too many", "SecurityError"); };
        }"""
    )
    label(compare, 1).fill("a red ring")
    assert "a red ring" in scores(compare)
    compare.click("#tab-search")
    expect(compare.locator("#part-search")).to_be_visible()


@pytest.mark.parametrize("part", ["compare", "search", "classify"])
def test_an_address_does_not_scroll(visit: Callable[..., Visit], base_url: str, part: str) -> None:
    """What a fragment names, the browser scrolls to."""
    page = visit(base_url).page
    assert page.locator(f"#{part}").count() == 0


@pytest.mark.parametrize("fragment", ["nope", "compare?sample=nope.jpg&url=nope&model=nope&picture=x", "search?like=x"])
def test_an_address_of_what_is_not_there_shows_the_beginning(
    visit: Callable[..., Visit], base_url: str, fragment: str
) -> None:
    page = visit(f"{base_url}/#{fragment}").page
    page.locator("#tab-compare").click()
    expect(best(page)).to_have_value("a red circle")


# -- pictures by their addresses


@pytest.fixture(scope="module")
def fetching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that fetches pictures from any address, its own included."""
    allowed = ("ALLOW_NON_HTTPS_URL_INPUT", "ALLOW_URL_INPUT_WITHOUT_FQDN", "ALLOW_URL_TO_NON_GLOBAL_ADDRESSES")
    settings = dict.fromkeys(allowed, "true")
    models = ("--repository", ROOT / "model_repository")
    stack = PeServe(tmp_path_factory.mktemp("fetching"), "--port", "0", *models, **settings)
    try:
        yield stack.wait_until_ready()
        stack.stop()
    finally:
        stack.kill()


def give_text(page: Page, kind: str, text: str, target: str = "body") -> None:
    """Pastes text, or drops what is dragged from a web page."""
    page.evaluate(
        """([kind, text, target]) => {
            const transfer = new DataTransfer();
            transfer.setData(kind === "drop" ? "text/uri-list" : "text/plain", text);
            const options = {bubbles: true, cancelable: true};
            const event = kind === "paste"
                ? new ClipboardEvent("paste", {...options, clipboardData: transfer})
                : new DragEvent("drop", {...options, dataTransfer: transfer});
            document.querySelector(target).dispatchEvent(event);
        }""",
        [kind, text, target],
    )


@pytest.mark.parametrize("way", ["field", "paste", "drop"])
def test_a_picture_is_compared_by_its_address(visit: Callable[..., Visit], fetching: str, way: str) -> None:
    page = visit(fetching).page
    page.wait_for_selector(".best")
    address = f"{fetching}/page/samples/blue-cross.jpg"
    if way == "field":
        page.get_by_label("Address of a picture").fill(address)
        page.keyboard.press("Enter")
    else:
        give_text(page, way, address)
    expect(page.locator("#picture-name")).to_have_text(address)
    label(page, 1).fill("a blue cross")
    expect(best(page)).to_have_value("a blue cross")
    page.locator("#snippets summary").click()
    for code in ("curl", "python"):
        page.locator(f"[name=language][value={code}]").check(force=True)
        command = ["bash", "-c"] if code == "curl" else [sys.executable, "-c"]
        run = subprocess.run(
            [*command, page.locator("#snippet").text_content() or ""],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        told = [float(found) for found in re.findall(r"-?\d+\.\d+", run.stdout)]
        assert min(abs(value - scores(page)["a blue cross"]) for value in told) < 6e-4
    other = share(page, visit)
    expect(best(other)).to_have_value("a blue cross")


def test_pictures_are_added_and_searched_by_their_addresses(visit: Callable[..., Visit], fetching: str) -> None:
    page = visit(f"{fetching}/#search").page
    expect(page.locator("#variant")).to_have_value("PE-Demo-T8-64")
    addresses = [f"{fetching}/page/samples/{name}.jpg" for name in ("blue-cross", "red-star", "nope")]
    give_text(page, "paste", "\n".join(addresses))
    expect(page.locator("#results li")).to_have_count(2)
    expect(page.locator("#search-trouble")).to_contain_text("nope.jpg: The server does not take this address:")
    page.fill("#query", f"{fetching}/page/samples/red-circle.jpg")
    expect(page.locator("#like-name")).to_have_text("Like red-circle.jpg")
    assert results(page) == ["red-star.jpg", "blue-cross.jpg"]
    page.reload()
    expect(page.locator("#like-name")).to_have_text("Like red-circle.jpg")
    expect(page.locator("#results li")).to_have_count(2)


def test_addresses_are_given_in_a_dialog(visit: Callable[..., Visit], fetching: str) -> None:
    """A phone cannot drop, nor paste outside of a field."""
    page = visit(f"{fetching}/#search").page
    expect(page.locator("#variant")).to_have_value("PE-Demo-T8-64")
    page.get_by_role("button", name="Add addresses").click()
    dialog = page.get_by_role("dialog", name="Add pictures by their addresses")
    for wrong in ("", "red-star.jpg", f"{fetching}/page/samples/red-star.jpg and more", "http://[x"):
        dialog.get_by_label("Addresses, one a line").fill(wrong)
        dialog.get_by_role("button", name="Add").click()
        expect(dialog.get_by_role("alert")).to_have_text("Write one address a line. Each begins with https: or http:.")
    found(page, "the addresses")
    names = [path.name for path in sorted(SAMPLES.glob("red-*.jpg"))]
    lines = [f"{fetching}/page/samples/{name}" for name in (*names, names[0], "nope.jpg")]
    dialog.get_by_label("Addresses, one a line").fill("\n".join(lines))
    dialog.get_by_role("button", name="Add").click()
    expect(dialog).to_be_hidden()
    expect(page.locator("#results li")).to_have_count(len(names))
    expect(page.locator("#search-trouble")).to_contain_text(
        "Left out: nope.jpg: The server does not take this address:"
    )
    page.locator("#tab-classify").click()
    page.locator("#part-classify").get_by_role("button", name="Add addresses").click()
    dialog.get_by_label("Addresses, one a line").fill(lines[0])
    dialog.get_by_role("button", name="Cancel").click()
    expect(page.locator("#classified")).to_be_hidden()
    page.locator("#part-classify").get_by_role("button", name="Add addresses").click()
    expect(dialog.get_by_label("Addresses, one a line")).to_have_value("")
    dialog.get_by_label("Addresses, one a line").fill(lines[0])
    dialog.get_by_role("button", name="Add").click()
    expect(page.locator("#classified-table tbody tr")).to_have_count(1)


def test_an_address_that_the_server_refuses(compare: Page) -> None:
    compare.get_by_label("Address of a picture").fill("http://example.com/a.png")
    compare.get_by_role("button", name="Fetch").click()
    expect(compare.locator("#picture-trouble")).to_have_text(
        re.compile("^The server does not take this address: Providing images via non https:// URL is not supported")
    )
    compare.click("#tab-search")
    give_text(compare, "drop", "http://example.com/a.png")
    expect(compare.locator("#search-trouble")).to_contain_text("a.png: The server does not take this address")


def test_text_is_pasted_into_a_field_as_ever(compare: Page) -> None:
    compare.context.grant_permissions(["clipboard-read", "clipboard-write"])
    compare.evaluate("navigator.clipboard.writeText('https://example.com/a.png')")
    label(compare, 1).fill("")
    label(compare, 1).focus()
    compare.keyboard.press("Control+V")
    expect(label(compare, 1)).to_have_value("https://example.com/a.png")
    expect(compare.locator("#picture-name")).to_have_text("A red circle")


def test_pictures_are_pasted_into_the_search(search: Page) -> None:
    give(search, "paste", numbered(3))
    expect(search.locator("#results li")).to_have_count(3)
    give(search, "paste", {"like.png": numbered(3)["001.png"]}, "#query")
    expect(search.locator("#like-name")).to_have_text("Like like.png")
    assert results(search)[0] == "001.png"


# -- one picture, and what is shown of many


def test_the_panel_of_one_picture(search: Page) -> None:
    add_samples(search)
    search.fill("#query", "a purple heart")
    expect(search.locator("#found-text")).to_contain_text("purple heart")
    search.locator("#results button").first.click()
    panel = search.locator("#panel")
    expect(panel.locator("#panel-name")).to_have_text("purple-heart.jpg")
    expect(panel.locator("#panel-place")).to_have_text("1 of 36")
    assert search.locator("#results b").first.inner_text() in panel.locator("#panel-score").inner_text()
    box = panel.locator("#panel-picture").bounding_box()
    assert box is not None
    assert box["height"] > 300
    expect(panel.get_by_role("button", name="Previous")).to_be_disabled()
    search.keyboard.press("ArrowRight")
    expect(panel.locator("#panel-name")).to_have_text(results(search)[1])
    search.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    search.locator("[data-name='blue-ring.jpg']").click()
    expect(panel).to_be_visible()
    search.go_back()
    expect(panel).to_be_hidden()
    expect(search.locator("#found-text")).to_contain_text("purple heart")
    search.locator("[data-name='blue-ring.jpg']").click()
    search.mouse.click(5, 5)
    expect(panel).to_be_hidden()


@pytest.mark.parametrize("again", [False, True])
def test_a_picture_of_the_search_is_compared_with_words(search: Page, again: bool) -> None:
    add_samples(search)
    if again:  # the file is gone; its small copy and its embedding are there
        search.reload()
    asked: list[str] = []
    search.on("request", lambda request: asked.append(request.post_data or ""))
    search.locator("[data-name='blue-ring.jpg']").click()
    search.get_by_role("button", name="Compare with words").click()
    expect(search.locator("#picture-name")).to_contain_text("blue-ring.jpg")
    expect(search.locator("#picture")).to_be_visible()
    label(search, 2).fill("a blue ring")
    expect(best(search)).to_have_value("a blue ring")
    search.go_back()
    expect(search.locator("#results li")).to_have_count(36)
    sent = [body for body in asked if "blue-ring.jpg" in body]
    assert sent == []


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


def on_map(page: Page) -> Any:
    add_samples(page)
    page.get_by_label("Map", exact=True).check(force=True)
    canvas = page.locator("#map")
    expect(canvas).to_have_attribute("aria-label", "Map of 36 pictures")
    return canvas


def centre(canvas: Any) -> tuple[float, float]:
    box = canvas.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


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


# -- when something is wrong


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


def test_no_network_is_said_and_tried_again(compare: Page) -> None:
    compare.context.set_offline(True)
    label(compare, 1).fill("a red ring")
    trouble = compare.locator("#labels-trouble")
    expect(trouble).to_contain_text("The server does not answer.")
    compare.context.set_offline(False)
    trouble.get_by_role("button", name="Try again").click()
    expect(trouble).to_be_hidden()
    assert "a red ring" in scores(compare)


def test_each_of_several_models_has_its_own_pictures(visit: Callable[..., Visit], tmp_path: Path) -> None:
    for model in ("Tiny-vision", "Tiny-text"):
        shutil.copytree(ROOT / "tests/deploy/models" / model, tmp_path / "models" / model)
    for model in ("PE-Demo-T8-64-vision", "PE-Demo-T8-64-text"):
        shutil.copytree(ROOT / "model_repository" / model, tmp_path / "models" / model)
    stack = PeServe(tmp_path, "--port", "0", "--repository", tmp_path / "models")
    try:
        page = visit(stack.wait_until_ready()).page
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
        other = share(page, visit)
        expect(other.locator("#variant")).to_have_value("PE-Demo-T8-64")
        expect(best(other)).to_have_value("a yellow star")
        other.locator("#demo").click()
        other.get_by_role("button", name="Use Tiny").click()
        expect(other.locator("#picture-name")).to_have_text("A cat's face")
        expect(other.locator("#variant")).to_have_value("Tiny")
        expect(page.get_by_label("Percent")).to_be_enabled()
        stack.stop()
    finally:
        stack.kill()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[tuple[PeServe, str]]:
    """A server with a key, below a path, that takes one small request at a time; it, and where the page is."""
    limits = {"PE_MAX_IN_FLIGHT": "1", "PE_MAX_BODY_BYTES": "100000"}
    settings = {"PE_ROOT_PATH": "/vision", "PE_API_KEYS": f"another,{KEY}", **limits}
    stack = PeServe(tmp_path, "--port", "0", "--repository", ROOT / "model_repository", **settings)
    try:
        yield stack, stack.wait_until_ready() + "/vision/"
    finally:
        stack.kill()


def test_below_a_path_of_a_busy_server_that_asks_for_a_key_and_ends(
    small: tuple[PeServe, str], visit: Callable[..., Visit], tmp_path: Path
) -> None:
    stack, url = small
    page = visit(url).page
    dialog = page.locator("#key-dialog")
    expect(dialog).to_be_visible()
    found(page, "the question for a key")
    dialog.get_by_label("API key").fill("a wrong one")
    page.keyboard.press("Enter")
    expect(page.locator("#key-text")).to_have_text("That key was not accepted. Another one?")
    dialog.get_by_role("button", name="Not now").click()
    expect(dialog).to_be_hidden()
    trouble = page.locator("#picture-trouble")
    expect(trouble).to_contain_text("This server asks for an API key.")
    trouble.get_by_role("button", name="Try again").click()
    dialog.get_by_label("API key").fill(KEY)
    page.keyboard.press("Enter")
    page.wait_for_selector(".best")
    expect(trouble).to_be_hidden()
    # It is in this tab and nowhere else, and in no request that one copies.
    assert page.evaluate("[Object.values(sessionStorage), localStorage.length, document.cookie]") == [[KEY], 0, ""]
    page.reload()
    page.wait_for_selector(".best")
    page.locator("#snippets summary").click()
    code = page.locator("#snippet").inner_text()
    assert KEY not in code
    run = subprocess.run(
        ["bash", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PE_API_KEY": KEY},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert json.loads(run.stdout)["similarity"] == pytest.approx(list(scores(page).values()), abs=6e-4)
    page.set_input_files("#choose-file", {"name": "a.png", "mimeType": "image/png", "buffer": bytes(100_001)})
    expect(page.locator("#picture-trouble")).to_have_text("That is more than this server takes in one request.")
    asked: list[tuple[str, int]] = []
    page.on("response", lambda response: asked.append((response.url, response.status)))
    page.click("#tab-search")
    page.evaluate(
        """() => {
            window.told = new Set();
            const note = () => window.told.add(document.getElementById("progress-text").textContent);
            new MutationObserver(note).observe(document.getElementById("progress-text"), {childList: true});
        }"""
    )
    give(page, "drop", {**numbered(80), "large.png": bytes(97_000)})
    expect(page.locator("#found-text")).to_have_text("80 pictures", timeout=30_000)
    expect(page.locator("#search-trouble")).to_have_text("Left out: large.png is too large for this server.")
    assert {status for _, status in asked} == {200, 429}
    assert "The server is busy; trying again in 1 s." in page.evaluate("[...window.told]")
    assert all(address.startswith((url, "blob:")) for address, _ in asked)
    stack.stop()
    page.fill("#query", "anything")
    expect(page.locator("#search-trouble")).to_contain_text("The server does not answer.")


# -- by keyboard, by ear, on a phone


def test_everything_works_by_keyboard(visit: Callable[..., Visit], base_url: str) -> None:
    page = visit(base_url).page
    page.wait_for_selector(".best")
    focused = """(({id, ariaLabel, dataset, name, tagName}) => id || ariaLabel || dataset.sample || name || tagName)
        (document.activeElement)"""
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(focused))
        outline = page.evaluate(
            "getComputedStyle(document.activeElement.closest('.bars li, label') ?? document.activeElement).outlineStyle"
        )
        assert reached[-1] == "BODY" or outline != "none" or reached[-1] in ("scores", "language"), reached[-1]
        if reached[-1] == "SUMMARY":
            break
    for needed in ("choose", "address", "blue-square.jpg", "scores", "Label 1", "Remove label 4", "add-label"):
        assert needed in reached
    page.locator("[data-sample='green-triangle.jpg']").focus()
    page.keyboard.press("Enter")
    expect(best(page)).to_have_value("a green triangle")
    label(page, 2).focus()
    page.keyboard.press("Enter")
    page.keyboard.type("a green thing")
    expect(label(page, 3)).to_have_value("a green thing")
    assert "a green thing" in scores(page)
    page.keyboard.press("ArrowUp")
    expect(label(page, 2)).to_be_focused()
    page.keyboard.press("ArrowDown")
    for _ in "a green thing":
        page.keyboard.press("Backspace")
    page.keyboard.press("Backspace")
    expect(page.locator("#labels li")).to_have_count(4)
    expect(label(page, 2)).to_be_focused()
    page.locator("[name=scores]").first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_label("Cosine", exact=True)).to_be_checked()
    page.locator("#tab-compare").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tab-search")).to_be_focused()
    expect(page.locator("#part-search")).to_be_visible()
    page.keyboard.press("Tab")
    while page.evaluate(focused) != "use-samples":
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#results li")).to_have_count(36)


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


@pytest.mark.parametrize(("scheme", "rules"), [("light", None), ("dark", ["color-contrast"])])
def test_axe_finds_nothing(visit: Callable[..., Visit], base_url: str, scheme: str, rules: list[str] | None) -> None:
    page = visit(base_url, color_scheme=scheme).page
    page.wait_for_selector(".best")
    page.locator("#snippets summary").click()
    page.locator("#time summary").click()
    label(page, 1).fill("a blue heart")
    expect(page.locator("#no-match")).to_be_visible()
    page.get_by_label("Cosine", exact=True).check(force=True)
    found(page, "compare", rules)
    page.locator("#demo").click()
    found(page, "the demo", rules)
    page.keyboard.press("Escape")
    give(page, "drop", {"notes.txt": b"no"})
    expect(page.locator("#picture-trouble")).to_be_visible()
    found(page, "compare with a trouble", rules)
    page.click("#tab-search")
    found(page, "search, empty", rules)
    add_samples(page)
    page.fill("#query", "a heart")
    expect(page.locator("#found-text")).to_contain_text("heart")
    found(page, "search", rules)
    page.locator("#results button").nth(1).click()
    found(page, "the panel", rules)
    page.keyboard.press("Escape")
    page.get_by_label("Map", exact=True).check(force=True)
    page.locator("#map").focus()
    page.keyboard.press("ArrowRight")
    found(page, "map", rules)
    page.locator("#clear").click()
    found(page, "search, cleared", rules)


def found(page: Page, where: str, rules: list[str] | None = None) -> None:
    """Nothing may be found; of all rules, unless some are named."""
    page.wait_for_timeout(300)  # colours on their way to others are neither
    options = {"runOnly": rules} if rules else None
    violations = Axe().run(page, options=options).response["violations"]
    told = [f"{where}: {one['id']}: {[node['html'] for node in one['nodes']]}" for one in violations]
    assert told == []


def test_on_a_phone(
    visit: Callable[..., Visit], device: tuple[Browser, dict[str, Any]], base_url: str, tmp_path: Path
) -> None:
    page = visit(base_url, **device[1]).page
    page.wait_for_selector(".best")
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(overflow) == 0
    last = page.locator("#labels .value").last.bounding_box()
    assert last is not None
    assert last["y"] + last["height"] < page.evaluate("innerHeight")  # the result is seen with the picture
    with page.expect_file_chooser():
        page.get_by_role("button", name="Take a photo").tap()
    for button in page.locator("#part-compare button:visible").all():
        box = button.bounding_box()
        assert box, button
        assert min(box["width"], box["height"]) >= 40, button.inner_html()
    page.locator("#demo").tap()
    assert page.locator("#demo-dialog").evaluate("dialog => dialog.scrollWidth - dialog.clientWidth") == 0
    page.keyboard.press("Escape")
    page.locator("#tab-search").tap()
    expect(page.locator("#choose-folder")).to_be_hidden()
    page.locator("#use-samples").tap()
    expect(page.locator("#results li")).to_have_count(36)
    page.fill("#query", "x" * 400)
    expect(page.locator("#found-text")).to_contain_text("xxx")
    assert page.evaluate(overflow) == 0
    page.fill("#query", "")
    found(page, "search on a phone")
    page.locator("#results button").first.tap()
    expect(page.locator("#panel")).to_be_visible()
    assert page.evaluate(overflow) == 0
    found(page, "the panel on a phone")
    page.get_by_role("button", name="Close").tap()
    page.get_by_label("Map", exact=True).check(force=True)
    canvas = page.locator("#map")
    pinch(page, canvas, 40, 100)
    expect(canvas).to_have_attribute("data-scale", "2.50")
    expect(page.locator("#panel")).to_be_hidden()
    found(page, "the map on a phone")


def test_bars_are_seen_in_the_colours_of_a_high_contrast(visit: Callable[..., Visit], base_url: str) -> None:
    page = visit(base_url, forced_colors="active").page
    page.wait_for_selector(".best")
    page.get_by_label("Cosine", exact=True).check(force=True)
    expect(page.locator(".track.negative")).not_to_have_count(0)
    page.wait_for_timeout(400)
    colours = page.eval_on_selector_all(
        "#labels .track",
        "tracks => tracks.flatMap(one => [one, one.firstChild]).map(one => getComputedStyle(one).backgroundColor)",
    )
    assert len(set(colours[1::2])) == 1
    assert not set(colours[1::2]) & set(colours[::2])


def test_zoomed_to_400_percent_nothing_has_to_be_scrolled_sideways(visit: Callable[..., Visit], base_url: str) -> None:
    """https://www.w3.org/WAI/WCAG22/Understanding/reflow.html: 320 CSS pixels."""
    page = visit(base_url, viewport={"width": 320, "height": 256}).page
    page.wait_for_selector(".best")
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    for text in page.locator("#labels input").all():
        assert text.evaluate("input => input.clientWidth") > 100
    for part in ("compare", "search", "classify"):
        page.click(f"#tab-{part}")
        if part != "compare":
            page.locator(f"#part-{part}").get_by_role("button", name="Use the samples").click()
            expect(page.locator("#results li" if part == "search" else "#classified-table tbody tr")).to_have_count(36)
        assert page.evaluate(overflow) <= 0, part


def pinch(page: Page, canvas: Any, start: float, end: float) -> None:
    """Two fingers go apart, from `start` to `end` CSS pixels on each side of the middle."""
    x, y = centre(canvas)
    fingers = page.context.new_cdp_session(page)
    for kind, apart in [("touchStart", start), *[("touchMove", start + (end - start) * i / 6) for i in range(1, 7)]]:
        points = [{"x": x + side * apart, "y": y, "id": side} for side in (-1, 1)]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    fingers.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
