"""Fixtures: the real server with the demo, pictures, and `pe-embed` as a program."""

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from PIL import Image, ImageDraw

from tests.deploy.bulk.scripted_gateway import ScriptedGateway
from tests.running import PeServe

ROOT: Final = Path(__file__).parents[3]
# The server has an environment of its own, as on the user's machine.
PE_SERVE: Final = (str(ROOT / ".venv/bin/python"), "-m", "deploy.embedded.cli")
PE_EMBED: Final = (sys.executable, "-m", "deploy.bulk.cli")


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., PeServe]]:
    """serve(PE_API_KEYS="a") -> a ready server with the demo, which is stopped at the end of all tests."""
    running: list[PeServe] = []

    def start(*arguments: str, **environment: str) -> PeServe:
        port = () if "--port" in arguments else ("--port", "0")
        server = PeServe(tmp_path_factory.mktemp("server"), *port, *arguments, command=PE_SERVE, **environment)
        running.append(server)
        server.wait_until_ready()
        return server

    yield start
    for server in running:
        if server.process.poll() is None:
            server.stop()
        server.kill()


@pytest.fixture(scope="session")
def server(serve: Callable[..., PeServe]) -> str:
    """The URL of a server with the demo."""
    return serve().wait_until_ready()


@pytest.fixture
def gateway() -> Iterator[ScriptedGateway]:
    """A gateway whose answers the test chooses."""
    with ScriptedGateway() as scripted:
        yield scripted


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of 40 pictures in three folders, all different."""
    folder = tmp_path / "pictures"
    for number in range(40):
        path = folder / "abc"[number % 3] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
    return folder


def picture(number: int) -> bytes:
    """Draw a small picture that differs from that of every other number, as a PNG file."""
    image = Image.new("RGB", (48, 48), (number * 37 % 256, number * 91 % 256, number * 13 % 256))
    ImageDraw.Draw(image).ellipse((8, 8, 20 + number % 28, 40), fill=(number * 71 % 256, 255 - number % 256, 128))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def pe_embed(*arguments: str | Path, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `pe-embed` to its end."""
    return subprocess.run(
        [*PE_EMBED, *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
