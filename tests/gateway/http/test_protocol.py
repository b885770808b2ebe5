"""Clients that occupy a connection, on real sockets. The app refuses requests with a certain header unread."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, cast

import pytest
import uvicorn

from gateway.http.connections import Connections
from gateway.http.protocol import MAX_HEAD_BYTES, Protocol

pytestmark = pytest.mark.slow

GET = b"GET / HTTP/1.1\r\nHost: x\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Read the body, unless a header says to refuse the request."""
    if scope["type"] != "http":
        return
    while b"refuse" not in dict(scope["headers"]) and (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    registry = Connections(100)
    registry.head.seconds = registry.rest.seconds = 0.4
    config = uvicorn.Config(
        app,
        port=0,
        http=cast(Any, partial(Protocol, registry=registry)),
        lifespan="off",
        log_config=None,
        timeout_keep_alive=30,
    )
    server = uvicorn.Server(config)
    # The server's signal handlers would replace pytest's.
    monkeypatch.setattr(server, "capture_signals", contextlib.nullcontext)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await serving


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def connection(port: int) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    yield reader, writer
    writer.close()


async def test_a_silent_connection_is_closed(connection: Connection) -> None:
    async with asyncio.timeout(10):
        assert await connection[0].read() == b""


async def test_a_head_in_crumbs_is_not_waited_for(connection: Connection) -> None:
    reader, writer = connection

    async def crumbs() -> None:
        for byte in GET * 100:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.02)

    sending = asyncio.create_task(crumbs())
    async with asyncio.timeout(10):
        # The server may close while a byte is on its way, which resets the connection.
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    sending.cancel()


async def test_a_head_without_end_is_refused(connection: Connection) -> None:
    reader, writer = connection
    writer.write(GET + b"x-more: " + b"a" * MAX_HEAD_BYTES)
    async with asyncio.timeout(10):
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 431 ")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head


async def test_a_client_that_goes_on_sending_it_is_disconnected(connection: Connection) -> None:
    writer = connection[1]
    writer.write(GET)
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(10):  # TimeoutError if the server does not close the connection.
            while True:
                writer.write(b"x-more: " + b"a" * 1000 + b"\r\n")
                await writer.drain()


async def test_a_large_head_is_taken(connection: Connection) -> None:
    reader, writer = connection
    writer.write(GET + b"x-more: " + b"a" * (MAX_HEAD_BYTES - 200) + b"\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")


async def test_a_slow_body_is_left_to_the_app(connection: Connection) -> None:
    reader, writer = connection
    writer.write(POST + b"\r\n")
    for _ in range(10):
        await asyncio.sleep(0.1)
        writer.write(b" " * 10)
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")


async def test_a_body_that_was_refused_is_not_waited_for(connection: Connection) -> None:
    reader, writer = connection
    writer.write(POST + b"refuse: 1\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    async with asyncio.timeout(10):
        assert (await reader.read()).endswith(b"ok")


async def test_a_connection_goes_on_after_any_whole_request(connection: Connection) -> None:
    """Also after a request that was refused before its body arrived, and after a pause longer than a head may take."""
    reader, writer = connection
    for head, body in ((POST, b" " * 100), (POST + b"refuse: 1\r\n", b" " * 100), (GET, b"")):
        writer.write(head + b"\r\n" + body[:50])
        await asyncio.sleep(0.1)
        writer.write(body[50:])
        answer = await reader.readuntil(b"ok")
        assert answer.startswith(b"HTTP/1.1 200")
        await asyncio.sleep(0.6)
