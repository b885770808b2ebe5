"""Takes the README's pictures of the page, anew: `.venv/bin/python -m tests.e2e.screenshots`.

Fonts are the machine's; the committed ones were taken with Debian's fonts-inter.
"""

import io
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from PIL import Image
from playwright.sync_api import Browser, expect

from tests.browsing import Visit, chromium
from tests.running import PeServe

_ROOT: Final = Path(__file__).parents[2]
_OUT: Final = Path(__file__).parent / "screenshots"


def main() -> None:
    _OUT.mkdir(exist_ok=True)
    with TemporaryDirectory() as directory:
        stack = PeServe(Path(directory), "--port", "0", "--repository", _ROOT / "model_repository")
        try:
            url = stack.wait_until_ready()
            with chromium() as (browser, _):
                for scheme in ("light", "dark"):
                    _compare(browser, url, scheme)
                    _map(browser, url, scheme)
            stack.stop()
        finally:
            stack.kill()


def _compare(browser: Browser, url: str, scheme: str) -> None:
    visit = Visit(browser, url, color_scheme=scheme, viewport={"width": 1180, "height": 780})
    visit.page.goto(url)
    visit.page.wait_for_selector(".best")
    visit.page.reload()  # the second time is the usual one: nothing has to be loaded first
    visit.page.wait_for_selector(".best")
    _shoot(visit, f"compare-{scheme}")


def _map(browser: Browser, url: str, scheme: str) -> None:
    visit = Visit(browser, f"{url}/#search", color_scheme=scheme, viewport={"width": 1180, "height": 1000})
    page = visit.page
    page.goto(visit.url)
    page.click("#use-samples")
    expect(page.locator("#results li")).to_have_count(36)
    page.fill("#query", "a green heart")
    expect(page.locator("#found-text")).to_contain_text("a green heart")
    page.get_by_label("Map", exact=True).check(force=True)
    _shoot(visit, f"map-{scheme}")


def _shoot(visit: Visit, name: str) -> None:
    visit.page.wait_for_timeout(800)  # bars grow, small copies are loaded
    Image.open(io.BytesIO(visit.page.screenshot())).convert("RGB").save(_OUT / f"{name}.webp", quality=90, method=6)
    visit.close()


if __name__ == "__main__":
    main()
