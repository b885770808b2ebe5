"""Debian's Chromium, watched: what a page asked of whom, and what it complained of."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from playwright.sync_api import Browser, Page, sync_playwright

# As root it has no sandbox to start; the others keep it from talking to its maker.
_ARGUMENTS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
PHONE: Final = "Pixel 7"


@contextmanager
def chromium() -> Iterator[tuple[Browser, dict[str, Any]]]:
    """The browser, and what it needs to know to be a phone. While it lives, its thread cannot run asyncio."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=_ARGUMENTS)
        try:
            yield browser, dict(playwright.devices[PHONE])
        finally:
            browser.close()


class Visit:
    """One page in a profile of its own. Keeps what is not allowed: requests elsewhere, refusals, errors of scripts."""

    def __init__(self, browser: Browser, url: str, **context: Any) -> None:
        self.url = url
        self.elsewhere: list[str] = []
        self.complaints: list[str] = []
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **context})
        self.context.set_default_timeout(15_000)
        self.page = self.open()

    def open(self) -> Page:
        page = self.context.new_page()
        page.on("request", lambda request: self._asked(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda message: self._said(message.type, message.text))
        return page

    def _asked(self, url: str) -> None:
        origin = re.match(r"https?://[^/]+", self.url)
        if not url.startswith((origin[0] if origin else self.url, "blob:", "data:")):
            self.elsewhere.append(url)

    def _said(self, kind: str, text: str) -> None:
        # That an answer was no success is what some tests are about.
        if kind == "error" and "Failed to load resource" not in text:
            self.complaints.append(text)

    def close(self) -> None:
        self.context.close()
        assert self.elsewhere == []
        assert self.complaints == []
