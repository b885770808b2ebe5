"""One gateway before two real Tritons, one of which is killed, hangs and comes back under load."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.running import PeServe, free_port

pytestmark = pytest.mark.triton

TEXT = "/perception_encoder/embed_text"
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def stacks(tmp_path: Path) -> Iterator[list[PeServe]]:
    stacks = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        arguments = ("--port", "0", "--repository", ROOT / "model_repository")
        stacks.append(PeServe(tmp_path / name, *arguments, PE_ONNXRUNTIME_THREADS="1"))
    try:
        for stack in stacks:
            stack.wait_until_ready()
        yield stacks
    finally:
        for stack in stacks:
            stack.kill()


@pytest.fixture
def base_url(stacks: list[PeServe]) -> Iterator[str]:
    port = free_port()
    environment = {
        **os.environ,
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "PE_TRITON_URL": ",".join(stack.triton() for stack in stacks),
        "PE_TEXT_CACHE_BYTES": "0",
    }
    gateway = subprocess.Popen([sys.executable, "-m", "gateway"], env=environment)
    try:
        url = f"http://127.0.0.1:{port}"
        end = time.monotonic() + 30
        while not ready(url):
            assert time.monotonic() < end
            time.sleep(0.1)
        yield url
    finally:
        gateway.kill()
        gateway.wait()


def ready(url: str) -> bool:
    try:
        return httpx2.get(url + "/readiness").status_code == 200
    except httpx2.TransportError:
        return False


async def load(base_url: str, seconds: float, in_flight: int = 16) -> list[int]:
    """Statuses of as many requests as that many clients make in that time."""
    statuses: list[int] = []
    end = time.monotonic() + seconds

    async def client(http: httpx2.AsyncClient, name: int) -> None:
        while time.monotonic() < end:
            answer = await http.post(TEXT, json={"text": [f"{name} {len(statuses)} {i}" for i in range(16)]})
            statuses.append(answer.status_code)

    limits = httpx2.Limits(max_connections=in_flight)
    async with httpx2.AsyncClient(base_url=base_url, timeout=60, limits=limits) as http:
        await asyncio.gather(*(client(http, name) for name in range(in_flight)))
    return statuses


async def test_none_is_lost_with_a_triton_that_hangs_or_dies(base_url: str, stacks: list[PeServe]) -> None:
    loaded = asyncio.create_task(load(base_url, seconds=9))
    await asyncio.sleep(1)
    triton = stacks[0].pid_of("tritonserver")
    os.kill(triton, signal.SIGSTOP)
    await asyncio.sleep(4)
    os.kill(triton, signal.SIGCONT)
    await asyncio.sleep(2)
    stacks[1].kill()  # with its pe-serve, which would start it again
    statuses = await loaded
    assert len(statuses) > 100
    assert set(statuses) == {200}
    stacks[0].kill()
    killed = time.monotonic()
    while ready(base_url):
        await asyncio.sleep(0.02)
        assert time.monotonic() < killed + 1
    answer = httpx2.post(base_url + TEXT, json={"text": "x"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
