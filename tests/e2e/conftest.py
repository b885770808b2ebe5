"""The real thing: pe-serve with the real Triton and the committed models, started once and always stopped."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

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
