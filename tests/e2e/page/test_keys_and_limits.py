"""A server that asks for a key, that is below a path, that is busy, or that takes small requests only."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Page, expect

from tests.browsing import Visit
from tests.e2e.page.accessibility import assert_accessible
from tests.e2e.page.actions import give, numbered, ready, run_code, write_classes
from tests.e2e.page.shown import classified, scores
from tests.running import PeServe

pytestmark = pytest.mark.triton

ROOT: Final = Path(__file__).parents[3]
KEY: Final = "open-sesame"


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
    assert_accessible(page, "the question for a key")
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
    printed = run_code(code, "curl", tmp_path, PE_API_KEY=KEY)
    assert json.loads(printed)["similarity"] == pytest.approx(list(scores(page).values()), abs=6e-4)
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


def test_classify_sends_small_requests_to_a_server_with_small_limits(
    visit: Callable[..., Visit], tmp_path: Path
) -> None:
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
        write_classes(page, ",".join("abcdefghijk"))
        classified(page, 24)
        stack.stop()
    finally:
        stack.kill()


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
