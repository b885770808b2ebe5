"""Several worker processes on one port."""

import os
import re
import signal
from pathlib import Path

import httpx2
import pytest

from tests.fake_triton import FakeTriton, eventually, served
from tests.gateway.process import COMMAND, GatewayProcess
from tests.running import with_own_mounts

pytestmark = pytest.mark.slow


def workers_of(gateway: GatewayProcess) -> set[int]:
    parent = gateway.process.pid
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return {pid for pid in map(int, children) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()}


def is_running(pid: int) -> bool:
    """False for a zombie too, whose command line is empty."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


async def test_workers_serve_one_port_and_their_metrics_add_up() -> None:
    environment = {"NUM_WORKERS": "2", "ROBOFLOW_API_KEY": "secret"}
    async with served(FakeTriton()) as port, GatewayProcess(port, **environment) as gateway:
        for i in range(30):
            # One connection per request, so that both workers get some.
            async with httpx2.AsyncClient(base_url=gateway.base_url) as client:
                answer = await client.post("/perception_encoder/embed_text", json={"text": str(i)})
                assert answer.status_code == 200, answer.text
        async with httpx2.AsyncClient(base_url=gateway.base_url) as client:
            metrics = (await client.get("/metrics")).text
        assert await gateway.stop() == 0
    assert "ROBOFLOW_API_KEY is set and ignored" in gateway.log
    assert "secret" not in gateway.log
    counted = re.findall(r'^pe_requests_total{.*embed_text".*} (\S+)$', metrics, re.MULTILINE)
    assert sum(map(float, counted)) == 30
    assert re.search(r'^pe_text_cache_lookups_total{result="miss"} 30.0$', metrics, re.MULTILINE)
    assert re.search(r"^pe_in_flight 0.0$", metrics, re.MULTILINE)
    assert re.search(r"^pe_triton_up{.*} 1.0$", metrics, re.MULTILINE)
    called = re.findall(r'^pe_triton_calls_total{.*result="Ok"} (\S+)$', metrics, re.MULTILINE)
    assert sum(map(float, called)) >= 30  # and the readiness probes


async def test_a_dead_worker_is_restarted_and_all_workers_end_with_the_supervisor() -> None:
    async with served(FakeTriton()) as port, GatewayProcess(port, NUM_WORKERS="2") as gateway:
        before = workers_of(gateway)
        assert len(before) == 2
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        await eventually(lambda: victim not in workers_of(gateway) and len(workers_of(gateway)) == 2, seconds=20)
        assert await gateway.readiness() == 200
        workers = workers_of(gateway)
        gateway.process.kill()
        await eventually(lambda: not any(map(is_running, workers)), seconds=20)
    assert f"Worker {victim} died (exit status -9)" in gateway.log


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("name", ["PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"])
async def test_an_inherited_directory_of_metrics_is_ignored(tmp_path: Path, name: str, workers: int) -> None:
    environment = {name: str(tmp_path / "of another program"), "NUM_WORKERS": str(workers)}
    async with (
        served(FakeTriton()) as port,
        GatewayProcess(port, **environment) as gateway,
        httpx2.AsyncClient(base_url=gateway.base_url) as client,
    ):
        assert (await client.post("/perception_encoder/embed_text", json={"text": "a"})).status_code == 200
        assert re.search(r'^pe_requests_total{.*embed_text".*} 1.0$', (await client.get("/metrics")).text, re.MULTILINE)


async def test_a_full_temporary_directory_ends_no_worker() -> None:
    command = with_own_mounts(COMMAND, 'mount -t tmpfs -o size=256k tmpfs /tmp && exec "$@"')
    async with (
        served(FakeTriton()) as port,
        GatewayProcess(port, command=command, NUM_WORKERS="2") as gateway,
        httpx2.AsyncClient(base_url=gateway.base_url) as client,
    ):
        assert (await client.post("/perception_encoder/embed_text", json={"text": "a"})).status_code == 200
        assert "pe_requests_total" in (await client.get("/metrics")).text
        assert await gateway.stop() == 0
    assert "died" not in gateway.log
