"""Files that the page makes: tables as CSV, embeddings as NumPy arrays."""

import base64
import csv
import io
import re
from pathlib import Path
from typing import Final

import httpx2
import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.e2e.page.actions import SAMPLES, add_samples, give, numbered, write_classes
from tests.e2e.page.shown import classified, label, number, scores

pytestmark = pytest.mark.triton

EVIL: Final = [
    '=HYPERLINK("http://x","y")',
    "+1",
    "-1",
    "@SUM(A1)",
    "\tx",
    "a,b",
    'say "hi"',
    "ein rotes Quadrat — 赤い 🟥",
]


@pytest.fixture
def exports(search: Page) -> Page:
    """The tab Search with the samples and with its exports open."""
    add_samples(search)
    search.locator("#export").click()
    return search


def downloaded(page: Page, selector: str) -> tuple[str, bytes]:
    """The name and the content of a file that the browser saved."""
    with page.expect_download() as download:
        page.click(selector)
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def table_of(data: bytes) -> list[dict[str, str]]:
    """A CSV file as Python reads it. The mark at its start is for Excel."""
    assert data.startswith(b"\xef\xbb\xbf")
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))


def guarded(text: str) -> str:
    """Return how a spreadsheet must get a text that would else be a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) else text


def test_the_table_is_downloaded_as_it_is_shown(classify: Page) -> None:
    write_evil = {f"{name}.png": data for name, data in zip(EVIL, numbered(len(EVIL)).values(), strict=True)}
    give(classify, "drop", {**write_evil, "broken.png": b"no picture"})
    classified(classify, len(EVIL) + 1)
    write_classes(classify, "=1+1\n-2\nfine, thanks\n@x", "{}")
    shown = classified(classify, len(EVIL) + 1)
    name, data = downloaded(classify, "#classify-csv")
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
    classify.click("th.file button")
    classify.locator("#class-counts button").filter(has_text="Not classified").click()
    expect(classify.locator("#classify-csv")).to_have_text("Download these 1 as CSV")
    assert [row["file"] for row in table_of(downloaded(classify, "#classify-csv")[1])] == ["broken.png"]


def test_cells_are_guarded_and_quoted(classify: Page) -> None:
    script = "async (rows) => (await (await import('./page/csv.js')).csvFile(['a', 'b'], rows).text())"
    cells = [*EVIL, "\r=1", "\n=1", "＝1", "a;=1", "", None, 0, -0.5, 1e-9, -1e-9, "x\r\ny"]
    text = classify.evaluate(script, [[cell, "end"] for cell in cells])
    read = list(csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline="")))[1:]
    assert [row[1] for row in read] == ["end"] * len(cells)
    for cell, (told, _) in zip(cells, read, strict=True):
        if isinstance(cell, str):
            assert not re.match(r"[=+\-@\t\r\n＝＋－＠]", told)
            assert told == cell or told == f"'{cell}"
        else:
            assert told == "" if cell is None else float(told) == cell


def test_embeddings_are_downloaded_as_numpy_and_as_csv(exports: Page, base_url: str) -> None:
    name, data = downloaded(exports, "#export-npy")
    assert name == "PE-Demo-T8-64-embeddings.npy"
    array = np.load(io.BytesIO(data), allow_pickle=False)
    assert array.dtype == np.dtype("<f4")
    assert array.flags.c_contiguous
    exports.reload()  # the order must not be that of this visit
    expect(exports.locator("#results li")).to_have_count(36)
    exports.locator("#export").click()
    name, data = downloaded(exports, "#export-rows")
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
    name, data = downloaded(exports, "#export-csv")
    assert name == "PE-Demo-T8-64-embeddings.csv"
    table = table_of(data)
    assert [row.pop("file") for row in table] == files
    assert list(table[0]) == [f"e{i}" for i in range(array.shape[1])]
    written = np.array([list(row.values()) for row in table]).astype(np.float32)
    np.testing.assert_array_equal(written, array)  # to the last bit


@pytest.mark.parametrize("shape", [(1, 1), (3, 1024), (12345, 7)])
def test_arrays_of_any_size_load(classify: Page, shape: tuple[int, int]) -> None:
    script = """async ([rows, columns]) => {
        const {npyFile} = await import("./page/npy.js");
        const all = Array.from({length: rows}, (_, i) => Float32Array.from({length: columns}, (_, j) => i - j / 3));
        const bytes = new Uint8Array(await npyFile(all).arrayBuffer());
        let text = "";
        for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
        return btoa(text);
    }"""
    data = base64.b64decode(classify.evaluate(script, shape))
    i, j = np.indices(shape)
    np.testing.assert_array_equal(np.load(io.BytesIO(data)), (i - j / 3).astype(np.float32))
    assert data.index(b"\n") % 64 == 63  # the numbers are aligned, as the format asks


def test_a_ranking_is_downloaded(exports: Page) -> None:
    expect(exports.locator("#export-ranking")).to_be_hidden()
    exports.fill("#query", "a green heart")
    expect(exports.locator("#found-text")).to_contain_text("a green heart")
    name, data = downloaded(exports, "#export-ranking")
    assert name == "PE-Demo-T8-64-ranking.csv"
    told = table_of(data)
    assert [row["rank"] for row in told] == [str(i) for i in range(1, 37)]
    assert [row["file"] for row in told] == [
        button.get_attribute("data-name") for button in exports.locator("#results button").all()
    ]
    seen = [number(text) for text in exports.locator("#results b").all_inner_texts()]
    assert [float(row["similarity"]) for row in told] == pytest.approx(seen, abs=6e-4)


def test_a_comparison_is_downloaded(compare: Page) -> None:
    label(compare, 1).fill("=a red circle")
    assert len(scores(compare)) == 4
    name, data = downloaded(compare, "#compare-csv")
    assert name == "comparison.csv"
    told = table_of(data)
    assert [row["label"] for row in told] == ["'=a red circle", "a red square", "a blue circle", "a yellow star"]
    assert sum(float(row["probability"]) for row in told) == pytest.approx(1)
    assert all(-1 <= float(row["similarity"]) <= 1 for row in told)
