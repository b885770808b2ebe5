"""Clients that disconnect, on real sockets, because in-process clients cannot disconnect."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import httpx2
import pytest
import uvicorn

from gateway.http.app import create_app
from gateway.settings import Settings
from tests.fakes import FakeEncoder, FakeFetch, InlineDecoder

BODY = json.dumps({"text": "a cat"}).encode()
REQUEST = b"POST /perception_encoder/embed_text HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY


@pytest.fixture
async def slow(unused_tcp_port: int) -> AsyncIterator[tuple[FakeEncoder, int]]:
    encoder = FakeEncoder(seconds=1)
    app = create_app(Settings.model_validate({"max_in_flight": 1}), encoder, FakeFetch(), InlineDecoder())
    server = uvicorn.Server(uvicorn.Config(app, port=unused_tcp_port, log_config=None, http="httptools"))
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    yield encoder, unused_tcp_port
    server.should_exit = True
    await serving


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


async def test_hanging_up_cancels_the_work_and_frees_its_place(slow: tuple[FakeEncoder, int]) -> None:
    encoder, port = slow
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST)
    await until(lambda: len(encoder.batches) == 1)
    writer.close()
    await until(lambda: encoder.cancelled == 1)
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        assert (await client.post("/perception_encoder/embed_text", content=BODY)).status_code == 200
        metrics = (await client.get("/metrics")).text
    assert 'pe_refused_total{reason="ClientLeft"} 1.0' in metrics
    assert "pe_in_flight 0.0" in metrics


async def test_hanging_up_while_sending_is_no_error(
    slow: tuple[FakeEncoder, int], caplog: pytest.LogCaptureFixture
) -> None:
    _, port = slow
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST[:-5])
    await writer.drain()
    await asyncio.sleep(0.1)
    writer.close()
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        async with asyncio.timeout(5):
            while "pe_in_flight 0.0" not in (metrics := (await client.get("/metrics")).text):
                await asyncio.sleep(0.01)
    assert 'pe_refused_total{reason="ClientLeft"} 1.0' in metrics
    assert "Traceback" not in caplog.text


async def test_answered_requests_on_one_connection_cancel_nothing(slow: tuple[FakeEncoder, int]) -> None:
    encoder, port = slow
    encoder.seconds = 0
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        for i in range(50):
            answer = await client.post("/perception_encoder/embed_text", json={"text": str(i)})
            assert answer.status_code == 200
    assert encoder.cancelled == 0
