"""The settings that reach uvicorn."""

import asyncio

import pytest
import uvicorn
from starlette.responses import Response

from gateway import serving
from gateway.http.connections import Connections
from gateway.settings import Settings
from tests.fake_triton import FakeTriton, served
from tests.gateway.process import GatewayProcess


def config() -> uvicorn.Config:
    return serving.uvicorn_config(Settings(), Response(), Connections(1))


def test_the_keep_alive_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert config().timeout_keep_alive == 75
    monkeypatch.setenv("PE_KEEP_ALIVE_SECONDS", "620")
    assert config().timeout_keep_alive == 620


@pytest.mark.parametrize("value", ["", "auto", "8"])
def test_a_hosting_platforms_variable_changes_nothing(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", value)
    assert config().workers == 1


@pytest.mark.slow
async def test_an_idle_connection_is_closed_after_the_keep_alive() -> None:
    async with served(FakeTriton()) as triton, GatewayProcess(triton, PE_KEEP_ALIVE_SECONDS="1") as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.base_url.rpartition(":")[2]))
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        async with asyncio.timeout(40):  # the default is 75 s
            answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"connection: close" not in answer
