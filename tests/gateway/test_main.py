"""The gateway as a process: what an operator sees who got the environment wrong, and several workers on one port."""

import asyncio
import os
import re
import sys

import httpx2
import pytest

from gateway.__main__ import main
from tests.fake_triton import FakeTriton, served


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PORT", "x", "pe-gateway: PORT: "),
        ("PE_MAX_IN_FLIGHT", "0", "pe-gateway: PE_MAX_IN_FLIGHT: "),
        ("PE_TRITON_URL", "http://a.example", "pe-gateway: PE_TRITON_URL: "),
        ("BLACKLISTED_DESTINATIONS_FOR_URL_INPUT", "https://a.example/", "https://a.example/"),
    ],
)
def test_a_wrong_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    assert main([]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "status"), [(["--help"], 0), (["--port", "9002"], 2)])
def test_a_question_starts_no_server(capsys: pytest.CaptureFixture[str], arguments: list[str], status: int) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == status
    said = capsys.readouterr()
    assert "usage: pe-gateway" in said.out + said.err
    assert ("PE_TRITON_URL" in said.out) is (status == 0)


async def test_workers_share_the_port_and_their_metrics_add_up(unused_tcp_port: int) -> None:
    async with served(FakeTriton()) as triton_port:
        environment = {
            **os.environ,
            "HOST": "127.0.0.1",
            "PORT": str(unused_tcp_port),
            "NUM_WORKERS": "2",
            "ROBOFLOW_API_KEY": "secret",
            "PE_TRITON_URL": f"127.0.0.1:{triton_port}",
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", env=environment, stderr=asyncio.subprocess.PIPE
        )
        assert process.stderr is not None
        log = asyncio.create_task(process.stderr.read())
        base_url = f"http://127.0.0.1:{unused_tcp_port}"
        try:
            async with asyncio.timeout(30):
                while not await ready(base_url):
                    await asyncio.sleep(0.1)
            for i in range(30):
                # A connection each, so that both workers get some.
                async with httpx2.AsyncClient(base_url=base_url) as client:
                    answer = await client.post("/perception_encoder/embed_text", json={"text": str(i)})
                    assert answer.status_code == 200, answer.text
            async with httpx2.AsyncClient(base_url=base_url) as client:
                metrics = (await client.get("/metrics")).text
        finally:
            process.terminate()
            await process.wait()
        said = (await log).decode()
        assert process.returncode == 0, said
        assert "ROBOFLOW_API_KEY is set and ignored" in said
        assert "secret" not in said
    counted = re.findall(r'^pe_requests_total{.*embed_text".*} (\S+)$', metrics, re.MULTILINE)
    assert sum(map(float, counted)) == 30
    assert re.search(r'^pe_text_cache_lookups_total{result="miss"} 30.0$', metrics, re.MULTILINE)
    assert re.search(r"^pe_in_flight 0.0$", metrics, re.MULTILINE)


async def ready(base_url: str) -> bool:
    async with httpx2.AsyncClient() as client:
        try:
            return (await client.get(base_url + "/readiness")).status_code == 200
        except httpx2.TransportError:
            return False
