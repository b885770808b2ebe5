"""Work that nobody waits for ends in Triton, too: its own counters say so."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.running import PeServe

pytestmark = pytest.mark.triton

TEXT = "/perception_encoder/embed_text"
ROOT = Path(__file__).parent.parent.parent
REQUESTS = 300
# A whole batch of the model: each request is run alone.
ITEMS = 64
SETTINGS = {"PE_TEXT_CACHE_BYTES": "0", "PE_ONNXRUNTIME_THREADS": "1", "PE_MAX_IN_FLIGHT": str(REQUESTS)}


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[PeServe]:
    stack = PeServe(tmp_path, "--port=0", "--triton-ports=0,0,0", "--repository", ROOT / "model_repository", **SETTINGS)
    try:
        stack.wait_until_ready()
        yield stack
    finally:
        stack.kill()


def metrics_of_triton(stack: PeServe) -> str:
    (port,) = {int(port) for port in re.findall(r"--metrics-port=(\d+)", " ".join(stack.processes().values()))}
    return httpx2.get(f"http://127.0.0.1:{port}/metrics").text


def counted(stack: PeServe, name: str) -> int:
    """Of the text tower."""
    found = re.findall(rf"^{name}{{(.*)}} (\S+)$", metrics_of_triton(stack), re.MULTILINE)
    return sum(int(float(value)) for labels, value in found if 'model="PE-Demo-T8-64-text"' in labels.split(","))


async def test_what_a_client_left_is_not_run(stack: PeServe) -> None:
    """Seconds of work, given up when a part of it is done. Most of it waits in the gateway, and some in Triton."""
    base_url = stack.wait_until_ready()
    before = counted(stack, "nv_inference_count")
    async with httpx2.AsyncClient(base_url=base_url, timeout=30, limits=httpx2.Limits()) as client:
        texts = [[f"{name} {i}" for i in range(ITEMS)] for name in range(REQUESTS)]
        asked = [asyncio.create_task(client.post(TEXT, json={"text": t})) for t in texts]
        async with asyncio.timeout(20):
            while await asyncio.to_thread(counted, stack, "nv_inference_count") < before + 20 * ITEMS:
                await asyncio.sleep(0.02)
        for request in asked:
            request.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    async with asyncio.timeout(5):
        while "pe_in_flight 0.0" not in httpx2.get(base_url + "/metrics").text:
            await asyncio.sleep(0.02)
    assert httpx2.post(base_url + TEXT, json={"text": "a red circle"}).status_code == 200
    run = counted(stack, "nv_inference_count") - before
    assert run < REQUESTS * ITEMS * 0.9
