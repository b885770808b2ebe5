"""The real thing: pe-serve with the real Triton and the committed models, started once and always stopped."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, expect

from tests.browsing import Visit, chromium
from tests.running import PeServe

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the committed models are served, for the whole run."""
    stack = PeServe(tmp_path_factory.mktemp("pe-serve"), "--port", "0", "--repository", ROOT / "model_repository")
    try:
        yield stack.wait_until_ready()
        assert stack.stop() == 0, stack.output
        assert "Traceback" not in stack.output, stack.output
    finally:
        stack.kill()


@pytest.fixture
def client(base_url: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=base_url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def device() -> Iterator[tuple[Browser, dict[str, Any]]]:
    expect.set_options(timeout=15_000)  # of a machine that does other things too
    with chromium() as found:
        yield found


@pytest.fixture
def visit(device: tuple[Browser, dict[str, Any]]) -> Iterator[Callable[..., Visit]]:
    """Opens a page of its own; at the end none may have asked elsewhere, or run into its policy or an error."""
    visits: list[Visit] = []

    def opened(url: str, **context: Any) -> Visit:
        visits.append(Visit(device[0], url, **context))
        visits[-1].page.goto(url)
        return visits[-1]

    yield opened
    for one in visits:
        one.close()
