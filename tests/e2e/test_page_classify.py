"""The tab Classify and the exports in a real browser, against the real stack."""

import base64
import csv
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect

from gateway.http import page as playground
from tests.browsing import Visit
from tests.pictures import encoded
from tests.running import PeServe

pytestmark = pytest.mark.triton

ROOT = Path(__file__).parents[2]
SAMPLES = Path(playground.__file__).parent / "static/samples"
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
EVIL = ['=HYPERLINK("http://x","y")', "+1", "-1", "@SUM(A1)", "\tx", "a,b", 'say "hi"', "ein rotes Quadrat — 赤い 🟥"]


@pytest.fixture
def page(visit: Callable[..., Visit], base_url: str) -> Page:
    return ready(visit(f"{base_url}/#classify").page)


def ready(page: Page) -> Page:
    expect(page.locator("#variant")).to_have_value("PE-Demo-T8-64")
    return page


def rows(page: Page) -> list[dict[str, str]]:
    """The table as it is shown."""
    return page.eval_on_selector_all(  # type: ignore[no-any-return]
        "#classified-table tbody tr",
        """(rows) => rows.map((row) => Object.fromEntries([...row.children].map((cell) =>
            [cell.className, (cell.querySelector("span:first-child:not(.meter)") ?? cell).innerText.trim()])))""",
    )


def classified(page: Page, count: int) -> list[dict[str, str]]:
    """The table, once it has so many rows and each has a class or an error."""
    expect(page.locator("#classified-table tbody tr")).to_have_count(count)
    expect(page.locator("td.class:has(span:first-child:empty)")).to_have_count(0)
    return rows(page)


def use_samples(page: Page) -> list[dict[str, str]]:
    page.click("#classify-samples")
    return classified(page, 36)


def write(page: Page, classes: str, template: str | None = None) -> None:
    """Fill in classes, and wait until they are counted."""
    page.fill("#classes", classes)
    if template is not None:
        page.fill("#template", template)
    names = [name.strip() for name in classes.split("\n" if "\n" in classes else ",")]
    shown = page.locator("#class-counts button:not(:first-child) span").filter(has_not_text="Not classified")
    expect(shown).to_have_text(list(dict.fromkeys(names)))


def counts(page: Page) -> dict[str, int]:
    found = page.locator("#class-counts button").all()
    return {one.locator("span").inner_text(): int(one.locator("b").inner_text()) for one in found}


def number(text: str) -> float:
    return float(text.replace("−", "-").removesuffix(" %"))


def give(page: Page, kind: str, files: dict[str, bytes], text: str = "", target: str = "body") -> None:
    """Drops or pastes files, or text: the events that a browser sends, around a real DataTransfer."""
    page.evaluate(
        """([kind, files, text, target]) => {
            const transfer = new DataTransfer();
            for (const [name, data] of Object.entries(files)) {
                const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
                const type = name.endsWith("txt") ? "text/plain" : "image/png";
                transfer.items.add(new File([bytes], name, {type, lastModified: 0}));
            }
            if (text) transfer.setData("text/plain", text);
            const options = {bubbles: true, cancelable: true};
            const event = kind === "paste"
                ? new ClipboardEvent("paste", {...options, clipboardData: transfer})
                : new DragEvent(kind, {...options, dataTransfer: transfer});
            document.querySelector(target).dispatchEvent(event);
        }""",
        [kind, {name: base64.b64encode(data).decode() for name, data in files.items()}, text, target],
    )


def numbered(count: int) -> dict[str, bytes]:
    """Small pictures, all different."""
    rng = np.random.default_rng(0)
    return {f"{i:03}.png": encoded(Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8))) for i in range(count)}


def downloaded(page: Page, selector: str) -> tuple[str, bytes]:
    """The name and the content of a file that the browser saved."""
    with page.expect_download() as download:
        page.click(selector)
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def table_of(data: bytes) -> list[dict[str, str]]:
    """A CSV file as Python reads it. The mark at its start is for Excel."""
    assert data.startswith(b"\xef\xbb\xbf")
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))


def asked(page: Page) -> list[str]:
    """The paths of the requests that the page sends from now on. The browser asks for the icon by itself."""
    paths: list[str] = []

    def note(url: str) -> None:
        if not url.startswith("blob:") and not url.endswith("/icon.svg"):
            paths.append(url.split("?")[0].rsplit("/", 1)[-1])

    page.on("request", lambda request: note(request.url))
    return paths


# -- the tab


def test_the_table_is_what_the_endpoint_answers(page: Page, base_url: str) -> None:
    shown = use_samples(page)
    write(page, "circle, square\n not one\nheart\nheart ", "a {} on paper, a {}")
    shown = classified(page, 36)
    files = [("image", (row["file"], (SAMPLES / row["file"]).read_bytes())) for row in shown]
    classes = ["circle, square", "not one", "heart"]
    answer = httpx2.post(
        f"{base_url}/perception_encoder/classify",
        data={"classes": classes, "template": "a {} on paper, a {}"},
        files=files,
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    told = [prediction[0] for prediction in answer.json()["predictions"]]
    assert [row["class"] for row in shown] == [one["class"] for one in told]
    assert [number(row["probability"]) for row in shown] == pytest.approx(
        [100 * one["probability"] for one in told], abs=0.06
    )
    assert [number(row["similarity"]) for row in shown] == pytest.approx([one["similarity"] for one in told], abs=6e-4)


def test_the_first_classes_sort_the_samples_right(page: Page) -> None:
    shown = use_samples(page)
    assert all(row["file"].removesuffix(".jpg").endswith(f"-{row['class']}") for row in shown)
    expect(page.locator("#classify-samples")).to_be_hidden()
    expect(page.locator("#classified-text")).to_have_text("36 pictures")


def test_other_classes_send_no_picture_again(page: Page) -> None:
    use_samples(page)
    paths = asked(page)
    write(page, "red, blue, green")
    classified(page, 36)
    assert set(counts(page)) == {"All", "red", "blue", "green"}
    assert paths == ["embed_text"]
    write(page, "red,blue")  # both are known
    page.fill("#template", "{}")
    expect(page.locator("#class-counts button")).to_have_count(3)
    assert "embed_image" not in paths


def test_counts_filter_and_columns_sort(page: Page) -> None:
    use_samples(page)
    found = counts(page)
    assert found.pop("All") == 36
    assert sum(found.values()) == 36
    assert list(found) == ["circle", "square", "triangle", "star", "heart", "ring", "diamond", "arrow", "cross"]
    star = page.locator("#class-counts button").filter(has_text="star")
    star.click()
    expect(star).to_have_attribute("aria-pressed", "true")
    assert {row["class"] for row in classified(page, found["star"])} == {"star"}
    expect(page.locator("#classified-text")).to_have_text(f"{found['star']} of 36 pictures")
    star.click()  # again: all
    classified(page, 36)
    columns: dict[str, Callable[[str], Any]] = {"file": str, "class": str, "probability": number, "similarity": number}
    for column, of in columns.items():
        head = page.locator(f"th.{column}")
        head.get_by_role("button").click()
        first = "descending" if of is number else "ascending"
        expect(head).to_have_attribute("aria-sort", first)
        values = [of(row[column]) for row in rows(page)]
        assert values == sorted(values, reverse=of is number)
        head.get_by_role("button").click()
        expect(head).to_have_attribute("aria-sort", {"descending": "ascending", "ascending": "descending"}[first])
        values = [of(row[column]) for row in rows(page)]
        assert values == sorted(values, reverse=of is not number)
        expect(page.locator("[aria-sort]")).to_have_count(1)


def test_a_folder_with_files_that_are_no_pictures(page: Page, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    for name, data in numbered(40).items():
        (tmp_path / "inner" / name).write_bytes(data)
    (tmp_path / "inner/017-broken.jpg").write_bytes(b"no picture at all")
    (tmp_path / "inner/018-broken.jpg").write_bytes(b"nor this")
    (tmp_path / "notes.txt").write_text("not sent")
    with (tmp_path / "large.png").open("wb") as large:
        large.truncate(65 * 2**20)
    page.set_input_files("#classify-folder-files", tmp_path)
    shown = classified(page, 43)
    failed = {row["file"].rsplit("/", 1)[-1]: row["error"] for row in shown if "error" in row}
    assert failed == {
        "017-broken.jpg": "Could not load input image. Cause: Data is not image.",
        "018-broken.jpg": "Could not load input image. Cause: Data is not image.",
        "large.png": "The file is larger than the 67.1 MB that this server takes in one request.",
    }
    assert any(row["file"].endswith("/inner/000.png") for row in shown)
    expect(page.locator("#classified-text")).to_have_text("43 pictures; 3 not classified")
    assert counts(page)["Not classified"] == 3
    page.click("th.similarity button")
    assert ["error" in row for row in rows(page)] == [False] * 40 + [True] * 3
    page.locator("#class-counts button").filter(has_text="Not classified").click()
    classified(page, 3)


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_pictures_come_in_by(page: Page, way: str) -> None:
    give(page, way, {"notes.txt": b"no"})
    if way == "drop":
        expect(page.locator("#classify-trouble")).to_have_text("There are no pictures among these files.")
    give(page, way, {**numbered(3), "notes.txt": b"no"})
    assert [row["file"] for row in classified(page, 3)] == ["000.png", "001.png", "002.png"]
    expect(page.locator("#classify-trouble")).to_be_hidden()
    give(page, way, numbered(3))
    expect(page.locator("#classify-trouble")).to_have_text("These pictures are all here already.")


def test_addresses_are_read_by_the_server(page: Page, base_url: str) -> None:
    """The server refuses loopback addresses by default, and that is its word on each."""
    addresses = [f"{base_url}/page/samples/red-circle.jpg", "https://127.0.0.1/x.jpg"]
    give(page, "paste", {}, "\n".join(addresses), target="#classes")  # text in a field is a text
    expect(page.locator("#classified")).to_be_hidden()
    give(page, "paste", {}, "\r\n".join([*addresses, "no address"]))  # nor is this anything else
    expect(page.locator("#classified")).to_be_hidden()
    give(page, "paste", {}, "\r\n".join(addresses))
    shown = classified(page, 2)
    assert [row["file"] for row in shown] == addresses
    told = [
        httpx2.post(f"{base_url}/perception_encoder/embed_image", data={"image": address}).json()["message"]
        for address in addresses
    ]
    assert [row["error"] for row in shown] == told


def test_the_pictures_of_the_search_are_not_sent_again(page: Page) -> None:
    page.click("#classify-search")
    expect(page.locator("#classify-trouble")).to_have_text("The search has no pictures of this model.")
    page.click("#tab-search")
    page.click("#use-samples")
    expect(page.locator("#results li")).to_have_count(36)
    expect(page.locator("#progress")).to_be_hidden()
    page.click("#tab-classify")
    paths = asked(page)
    page.click("#classify-search")
    shown = classified(page, 36)
    assert all(row["file"].removesuffix(".jpg").endswith(f"-{row['class']}") for row in shown)
    expect(page.locator("td.preview img")).to_have_count(36)
    assert paths == []


def test_adding_shows_how_far_it_is_and_can_be_cancelled(page: Page) -> None:
    seen = 0

    def let_three_through(route: Route) -> None:
        nonlocal seen
        seen += 1
        if seen <= 3:
            route.continue_()  # the others hang until they are cancelled

    page.route("**/embed_image*", let_three_through)
    give(page, "drop", numbered(100))
    expect(page.locator("#classify-progress-text")).to_have_text("48 of 100 pictures")
    assert page.locator("#classify-bar").evaluate("bar => bar.value / bar.max") == pytest.approx(0.48)
    page.click("#classify-cancel")
    expect(page.locator("#classify-progress")).to_be_hidden()
    expect(page.locator("#classify-pictures")).to_be_focused()
    classified(page, 48)
    expect(page.locator("#classify-trouble")).to_be_hidden()
    page.unroute("**/embed_image*")
    give(page, "drop", numbered(100))  # those that are here are not sent again
    expect(page.locator("#classified-text")).to_have_text("100 pictures")


def test_clear_can_be_undone(page: Page) -> None:
    before = use_samples(page)
    page.click("#classify-clear")
    expect(page.locator("#classified")).to_be_hidden()
    expect(page.locator("#classify-undo")).to_be_focused()
    page.keyboard.press("Enter")
    assert classified(page, 36) == before
    expect(page.locator("#classify-undo")).to_be_hidden()
    page.click("#classify-clear")
    give(page, "drop", numbered(1))
    classified(page, 1)
    expect(page.locator("#classify-undo")).to_be_hidden()


def test_classes_can_be_shared_and_come_back(page: Page, visit: Callable[..., Visit]) -> None:
    assert page.url.endswith("#classify")
    use_samples(page)
    write(page, "red, or so\n100 % blue & square?", "a {} thing")
    page.wait_for_url("**/#classify?class=red%2C+or+so&class=100*&prompt=a+*")
    other = ready(visit(page.url).page)
    expect(other.locator("#classes")).to_have_value("red, or so\n100 % blue & square?")
    expect(other.locator("#template")).to_have_value("a {} thing")
    other.click("#classify-samples")
    shown = classified(page, 36)
    assert classified(other, 36) == shown
    page.click("#tab-compare")
    page.go_back()
    expect(page.locator("#part-classify")).to_be_visible()
    assert classified(page, 36) == shown
    page.fill("#template", "")
    page.wait_for_url("**&prompt=")
    expect(ready(visit(page.url).page).locator("#template")).to_have_value("")


def test_wrong_classes_and_prompts_are_called_that(page: Page) -> None:
    before = use_samples(page)
    trouble = page.locator("#classes-trouble")
    page.fill("#template", "a photo")
    expect(trouble).to_have_text("The prompt needs a {} where the class belongs.")
    page.fill("#template", "")
    expect(trouble).to_be_hidden()
    page.fill("#classes", " \n, ")
    expect(trouble).to_have_text("Write at least one class.")
    page.fill("#classes", "dog " * 40 + "\ncat")
    expect(page.locator("#classes-cut")).to_contain_text("The model reads only the beginning of: dog dog")
    page.fill("#classes", "x" * 200_000)
    expect(trouble).to_have_text("A text has 200000 characters; at most 128000 are allowed.")
    assert len(rows(page)) == len(before)


def test_a_late_answer_about_classes_is_dropped(page: Page) -> None:
    use_samples(page)
    held: list[Route] = []
    page.route("**/embed_text", lambda route: held.append(route) if not held else route.continue_())
    with page.expect_request("**/embed_text"):
        page.fill("#classes", "old, older")
    write(page, "new, newer")
    assert set(counts(page)) == {"All", "new", "newer"}
    assert len(held) == 1


def test_a_server_that_ends_is_called_that_and_asked_again(page: Page) -> None:
    page.context.set_offline(True)
    give(page, "drop", numbered(2))
    trouble = page.locator("#classify-trouble")
    expect(trouble).to_contain_text("The server does not answer.")
    expect(trouble).to_contain_text("2 pictures not added yet.")
    page.context.set_offline(False)
    trouble.get_by_role("button", name="Try again").click()
    classified(page, 2)
    expect(trouble).to_be_hidden()


def test_small_requests_of_a_server_with_small_limits(visit: Callable[..., Visit], tmp_path: Path) -> None:
    limits = {"CLIP_MAX_BATCH_SIZE": "5", "PE_MAX_TEXTS": "4", "PE_MAX_BODY_BYTES": "40000", "PE_MAX_IN_FLIGHT": "1"}
    stack = PeServe(tmp_path, "--port", "0", "--repository", ROOT / "model_repository", **limits)
    try:
        page = ready(visit(f"{stack.wait_until_ready()}/#classify").page)
        page.evaluate(
            """() => {
                const send = window.fetch;
                window.sent = [];
                window.fetch = (url, options) => {
                    if (options.body instanceof FormData) window.sent.push(options.body.getAll("image").length);
                    return send(url, options);
                };
            }"""
        )
        statuses: set[int] = set()
        page.on("response", lambda response: statuses.add(response.status))
        give(page, "drop", {**numbered(23), "large.png": bytes(39_000)})
        shown = classified(page, 24)
        assert [row["error"] for row in shown if "error" in row] == [
            "The file is larger than the 0.0 MB that this server takes in one request."
        ]
        assert max(page.evaluate("window.sent")) == 5
        assert statuses <= {200, 429}
        write(page, ",".join("abcdefghijk"))
        classified(page, 24)
        stack.stop()
    finally:
        stack.kill()


# -- files


def test_the_table_is_downloaded_as_it_is_shown(page: Page) -> None:
    write_evil = {f"{name}.png": data for name, data in zip(EVIL, numbered(len(EVIL)).values(), strict=True)}
    give(page, "drop", {**write_evil, "broken.png": b"no picture"})
    classified(page, len(EVIL) + 1)
    write(page, "=1+1\n-2\nfine, thanks\n@x", "{}")
    shown = classified(page, len(EVIL) + 1)
    name, data = downloaded(page, "#classify-csv")
    assert name == "classes.csv"
    assert data.count(b"\r\n") == len(EVIL) + 2
    told = table_of(data)
    assert [row["file"] for row in told] == [guarded(f"{name}.png") for name in EVIL] + ["broken.png"]
    for row, seen in zip(told, shown, strict=True):
        assert row["class"] == guarded(seen.get("class", ""))
        assert row["error"] == seen.get("error", "")
        if not row["error"]:
            assert 100 * float(row["probability"]) == pytest.approx(number(seen["probability"]), abs=0.06)
            assert float(row["similarity"]) == pytest.approx(number(seen["similarity"]), abs=6e-4)
    page.click("th.file button")
    page.locator("#class-counts button").filter(has_text="Not classified").click()
    expect(page.locator("#classify-csv")).to_have_text("Download these 1 as CSV")
    assert [row["file"] for row in table_of(downloaded(page, "#classify-csv")[1])] == ["broken.png"]


def guarded(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) else text


def test_cells_are_guarded_and_quoted(page: Page) -> None:
    script = "async (rows) => (await (await import('./page/csv.js')).csvFile(['a', 'b'], rows).text())"
    cells = [*EVIL, "\r=1", "\n=1", "＝1", "a;=1", "", None, 0, -0.5, 1e-9, -1e-9, "x\r\ny"]
    text = page.evaluate(script, [[cell, "end"] for cell in cells])
    read = list(csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline="")))[1:]
    assert [row[1] for row in read] == ["end"] * len(cells)
    for cell, (told, _) in zip(cells, read, strict=True):
        if isinstance(cell, str):
            assert not re.match(r"[=+\-@\t\r\n＝＋－＠]", told)
            assert told == cell or told == f"'{cell}"
        else:
            assert told == "" if cell is None else float(told) == cell


@pytest.fixture
def search(page: Page) -> Page:
    page.click("#tab-search")
    page.click("#use-samples")
    expect(page.locator("#results li")).to_have_count(36)
    expect(page.locator("#progress")).to_be_hidden()
    page.locator("#export").click()
    return page


def test_embeddings_are_downloaded_as_numpy_and_as_csv(search: Page, base_url: str) -> None:
    name, data = downloaded(search, "#export-npy")
    assert name == "PE-Demo-T8-64-embeddings.npy"
    array = np.load(io.BytesIO(data), allow_pickle=False)
    assert array.dtype == np.dtype("<f4")
    assert array.flags.c_contiguous
    search.reload()  # the order must not be that of this visit
    expect(search.locator("#results li")).to_have_count(36)
    search.locator("#export").click()
    name, data = downloaded(search, "#export-rows")
    assert name == "PE-Demo-T8-64-rows.csv"
    files = [row["file"] for row in table_of(data)]
    assert [row["row"] for row in table_of(data)] == [str(i) for i in range(36)]
    answer = httpx2.post(
        f"{base_url}/perception_encoder/embed_image",
        files=[("image", (file, (SAMPLES / file).read_bytes())) for file in files],
        headers={"accept": "application/x-npy"},
        timeout=60,
    )
    expected = np.load(io.BytesIO(answer.content))
    assert array.shape == expected.shape
    np.testing.assert_allclose(array, expected, atol=1e-5)
    name, data = downloaded(search, "#export-csv")
    assert name == "PE-Demo-T8-64-embeddings.csv"
    table = table_of(data)
    assert [row.pop("file") for row in table] == files
    assert list(table[0]) == [f"e{i}" for i in range(array.shape[1])]
    written = np.array([list(row.values()) for row in table]).astype(np.float32)
    np.testing.assert_array_equal(written, array)  # to the last bit


@pytest.mark.parametrize("shape", [(1, 1), (3, 1024), (12345, 7)])
def test_arrays_of_any_size_load(page: Page, shape: tuple[int, int]) -> None:
    script = """async ([rows, columns]) => {
        const {npyFile} = await import("./page/npy.js");
        const all = Array.from({length: rows}, (_, i) => Float32Array.from({length: columns}, (_, j) => i - j / 3));
        const bytes = new Uint8Array(await npyFile(all).arrayBuffer());
        let text = "";
        for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
        return btoa(text);
    }"""
    data = base64.b64decode(page.evaluate(script, shape))
    i, j = np.indices(shape)
    np.testing.assert_array_equal(np.load(io.BytesIO(data)), (i - j / 3).astype(np.float32))
    assert data.index(b"\n") % 64 == 63  # the numbers are aligned, as the format asks


def test_each_picture_is_kept_without_the_rest_of_its_request(search: Page) -> None:
    script = """async () => (await (await import("./page/store.js")).load("PE-Demo-T8-64"))
        .map(({embedding}) => [embedding.byteLength, embedding.buffer.byteLength])"""
    assert {alone == whole for alone, whole in search.evaluate(script)} == {True}


def test_a_ranking_is_downloaded(search: Page) -> None:
    expect(search.locator("#export-ranking")).to_be_hidden()
    search.fill("#query", "a green heart")
    expect(search.locator("#found-text")).to_contain_text("a green heart")
    name, data = downloaded(search, "#export-ranking")
    assert name == "PE-Demo-T8-64-ranking.csv"
    told = table_of(data)
    assert [row["rank"] for row in told] == [str(i) for i in range(1, 37)]
    assert [row["file"] for row in told] == [
        button.get_attribute("data-name") for button in search.locator("#results button").all()
    ]
    seen = [number(text) for text in search.locator("#results b").all_inner_texts()]
    assert [float(row["similarity"]) for row in told] == pytest.approx(seen, abs=6e-4)


def test_a_comparison_is_downloaded(page: Page) -> None:
    page.click("#tab-compare")
    page.wait_for_selector(".best")
    page.get_by_label("Label 1", exact=True).fill("=a red circle")
    expect(page.locator("#labels .value").filter(has_text=re.compile(r"\d"))).to_have_count(4)
    name, data = downloaded(page, "#compare-csv")
    assert name == "comparison.csv"
    told = table_of(data)
    assert [row["label"] for row in told] == ["'=a red circle", "a red square", "a blue circle", "a yellow star"]
    assert sum(float(row["probability"]) for row in told) == pytest.approx(1)
    assert all(-1 <= float(row["similarity"]) <= 1 for row in told)


# -- by keyboard, by ear, on a phone


def test_everything_works_by_keyboard(page: Page) -> None:
    page.locator("#tab-search").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tab-classify")).to_be_focused()
    page.keyboard.press("ArrowRight")  # around
    expect(page.locator("#tab-compare")).to_be_focused()
    page.keyboard.press("ArrowLeft")
    tab_to(page, "#classify-samples")
    page.keyboard.press("Enter")
    classified(page, 36)
    tab_to(page, "#classes")
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.type("red\nblue")
    expect(page.locator("#class-counts button")).to_have_count(3)
    tab_to(page, "#class-counts button:nth-child(2)")
    page.keyboard.press("Space")
    pressed = page.locator("#class-counts [aria-pressed='true']")
    expect(pressed).to_contain_text("red")
    expect(pressed).to_be_focused()
    tab_to(page, "th.probability button")
    page.keyboard.press("Enter")
    expect(page.locator("th.probability")).to_have_attribute("aria-sort", "descending")
    expect(page.locator("th.probability button")).to_be_focused()


def tab_to(page: Page, selector: str) -> None:
    """By the Tab key alone; whatever has the focus on the way shows it."""
    for _ in range(30):
        page.keyboard.press("Tab")
        focused = page.evaluate("document.activeElement.outerHTML")
        if page.evaluate("document.activeElement !== document.body"):
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none", focused
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{selector} is not reached")


@pytest.mark.parametrize(("scheme", "rules"), [("light", None), ("dark", ["color-contrast"])])
def test_axe_finds_nothing(visit: Callable[..., Visit], base_url: str, scheme: str, rules: list[str] | None) -> None:
    page = ready(visit(f"{base_url}/#classify", color_scheme=scheme).page)
    clean(page, "empty", rules)
    use_samples(page)
    give(page, "drop", {"broken.png": b"no picture"})
    classified(page, 37)
    page.click("th.probability button")
    page.locator("#class-counts button").nth(1).click()
    page.fill("#template", "none")
    expect(page.locator("#classes-trouble")).to_be_visible()
    clean(page, "with a table", rules)
    page.locator("#class-counts button").first.click()
    clean(page, "with an error", rules)
    page.click("#tab-search")
    page.click("#use-samples")
    expect(page.locator("#results li")).to_have_count(36)
    page.locator("#export").click()
    clean(page, "the exports", rules)


def clean(page: Page, where: str, rules: list[str] | None = None) -> None:
    """Axe finds nothing; by all rules, unless some are named."""
    page.wait_for_timeout(300)  # colours on their way to others are neither
    violations = Axe().run(page, options={"runOnly": rules} if rules else None).response["violations"]
    assert [f"{where}: {one['id']}: {[node['html'] for node in one['nodes']]}" for one in violations] == []


def test_on_a_phone(visit: Callable[..., Visit], device: tuple[Browser, dict[str, Any]], base_url: str) -> None:
    page = ready(visit(f"{base_url}/#classify", **device[1]).page)
    assert page.evaluate(OVERFLOW) == 0
    expect(page.locator("#classify-folder")).to_be_hidden()
    page.locator("#classify-samples").tap()
    classified(page, 36)
    long = "a" * 60 + " " + "b" * 60 + ".png"
    give(page, "drop", {long: b"no picture", **numbered(1)})
    classified(page, 38)
    write(page, "circle\n" + "x" * 80)
    assert page.evaluate(OVERFLOW) == 0
    for button in page.locator("#part-classify button:visible").all():
        box = button.bounding_box()
        assert box, button
        assert min(box["width"], box["height"]) >= 40, button.inner_html()
    box = page.locator("#class-counts").bounding_box()
    assert box
    assert box["y"] < 839, "the counts are on the first screen"
    page.locator("th.similarity button").tap()
    expect(page.locator("th.similarity")).to_have_attribute("aria-sort", "descending")
    snapshot = page.locator("#classified-table").aria_snapshot()
    assert '- columnheader "Similarity"' in snapshot  # however it is laid out, it is a table
    assert "- cell" in snapshot
    clean(page, "on a phone")


def test_several_models(visit: Callable[..., Visit], tmp_path: Path) -> None:
    """What is here is embedded anew by the other model; without a logit scale there are no probabilities."""
    for model in ("PE-Demo-T8-64-vision", "PE-Demo-T8-64-text"):
        (tmp_path / "models").mkdir(exist_ok=True)
        (tmp_path / "models" / model).symlink_to(ROOT / "model_repository" / model)
    for model in ("Tiny-vision", "Tiny-text"):
        (tmp_path / "models" / model).symlink_to(ROOT / "tests/deploy/models" / model)
    stack = PeServe(tmp_path, "--port", "0", "--repository", tmp_path / "models")
    try:
        page = visit(f"{stack.wait_until_ready()}/#classify").page
        expect(page.locator("#variant")).to_have_value("Tiny")
        give(page, "drop", numbered(5))
        shown = classified(page, 5)
        assert {row["probability"] for row in shown} == {""}
        expect(page.locator("#classified-note")).to_contain_text("no probabilities")
        page.select_option("#variant", "PE-Demo-T8-64")
        expect(page.locator("#classes")).to_have_value(re.compile("^circle\n"))
        shown = classified(page, 5)
        assert all(row["probability"].endswith("%") for row in shown)
        stack.stop()
    finally:
        stack.kill()
