"""What a visitor does to the page, and the files to do it with."""

import base64
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image
from playwright.sync_api import Page, expect

from gateway.http import page as playground
from tests.e2e.page.shown import classified
from tests.pictures import encoded

SAMPLES: Final = Path(playground.__file__).parent / "static/samples"


def ready(page: Page) -> Page:
    """Wait until the page knows the demo model."""
    expect(page.locator("#variant")).to_have_value("PE-Demo-T8-64")
    return page


def add_samples(page: Page) -> None:
    """Add the samples to Search."""
    page.click("#use-samples")
    expect(page.locator("#results li")).to_have_count(36)
    expect(page.locator("#progress")).to_be_hidden()


def classify_samples(page: Page) -> list[dict[str, str]]:
    """Add the samples to Classify, and return the table."""
    page.click("#classify-samples")
    return classified(page, 36)


def write_classes(page: Page, classes: str, template: str | None = None) -> None:
    """Fill in classes, and wait until they are counted."""
    page.fill("#classes", classes)
    if template is not None:
        page.fill("#template", template)
    names = [name.strip() for name in classes.split("\n" if "\n" in classes else ",")]
    shown = page.locator("#class-counts button:not(:first-child) span").filter(has_not_text="Not classified")
    expect(shown).to_have_text(list(dict.fromkeys(names)))


def give(page: Page, kind: str, files: dict[str, bytes], target: str = "body") -> None:
    """Drop or paste files on an element."""
    _dispatch(page, kind, files, "", target)


def give_text(page: Page, kind: str, text: str, target: str = "body") -> None:
    """Paste text into an element, or drop there what is dragged from a web page."""
    _dispatch(page, kind, {}, text, target)


def _dispatch(page: Page, kind: str, files: dict[str, bytes], text: str, target: str) -> None:
    """Dispatch the event that a browser sends, with a real DataTransfer."""
    page.evaluate(
        """([kind, files, text, target]) => {
            const transfer = new DataTransfer();
            for (const [name, data] of Object.entries(files)) {
                const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
                const type = name.endsWith("txt") ? "text/plain" : "image/png";
                transfer.items.add(new File([bytes], name, {type, lastModified: 0}));
            }
            if (text) transfer.setData(kind === "drop" ? "text/uri-list" : "text/plain", text);
            const options = {bubbles: true, cancelable: true};
            const event = kind === "paste"
                ? new ClipboardEvent("paste", {...options, clipboardData: transfer})
                : new DragEvent(kind, {...options, dataTransfer: transfer});
            document.querySelector(target).dispatchEvent(event);
        }""",
        [kind, {name: base64.b64encode(data).decode() for name, data in files.items()}, text, target],
    )


def numbered(count: int) -> dict[str, bytes]:
    """Return small pictures, all different, by their names: 000.png, 001.png and so on."""
    rng = np.random.default_rng(0)
    return {f"{i:03}.png": encoded(Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8))) for i in range(count)}


def run_code(code: str, language: str, folder: Path, **environment: str) -> str:
    """Run code that the page shows, in curl or in Python, and return what it prints."""
    run = subprocess.run(
        ["bash", "-c", code] if language == "curl" else [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout
