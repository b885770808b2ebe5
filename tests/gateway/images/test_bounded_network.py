"""Connections that read little ahead, on the event loop that serves."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpcore2
import pytest
import uvloop

from gateway.images.bounded_network import BoundedNetwork


@asynccontextmanager
async def connected(speak: Callable[[socket.socket], object]) -> AsyncIterator[httpcore2.AsyncNetworkStream]:
    """A connection to a server that calls `speak` in a thread, and closes the connection afterwards."""

    def serve() -> None:
        connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):
            speak(connection)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        stream = await BoundedNetwork().connect_tcp("127.0.0.1", server.getsockname()[1], 5)
        try:
            yield stream
        finally:
            await stream.aclose()
            await asyncio.to_thread(thread.join, 5)


def test_a_fast_server_fills_no_memory() -> None:
    sent = 0

    def endless(connection: socket.socket) -> None:
        nonlocal sent
        while True:
            sent += connection.send(bytes(65_536))

    async def held_at_most() -> int:
        held = 0
        async with connected(endless) as stream:
            for _ in range(20):
                assert await stream.read(65_536, 5)
                before = -1
                while before < sent:  # until the server cannot send more
                    before = sent
                    await asyncio.sleep(0.01)
                held = max(held, len(stream._connection.received))  # type: ignore[attr-defined]
        return held

    assert uvloop.run(held_at_most()) <= 2**18


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\n\r\n", b""])
def test_an_idle_connection_with_unexpected_bytes_or_an_end_is_readable(answer: bytes) -> None:
    done = threading.Event()

    def speak(connection: socket.socket) -> None:
        connection.recv(1)
        connection.sendall(answer)
        if answer:
            done.wait(5)

    async def readable() -> list[bool]:
        async with connected(speak) as stream:
            before = stream.get_extra_info("is_readable")
            await stream.write(b"x", 5)
            async with asyncio.timeout(5):
                while not (after := stream.get_extra_info("is_readable")):
                    await asyncio.sleep(0.01)
            done.set()
            return [before, after]

    assert uvloop.run(readable()) == [False, True]


def test_errors_are_those_of_httpcore() -> None:
    def silent(connection: socket.socket) -> None:
        connection.recv(1)

    async def errors() -> None:
        with pytest.raises(httpcore2.ConnectError):
            await BoundedNetwork().connect_tcp("127.0.0.1", 9, 5)
        async with connected(silent) as stream:
            with pytest.raises(httpcore2.ReadTimeout):
                await stream.read(1, 0.05)
            await stream.aclose()
            with pytest.raises(httpcore2.WriteError):
                await stream.write(b"x", 5)

    uvloop.run(errors())


def test_the_end_is_read_as_no_bytes() -> None:
    def close(connection: socket.socket) -> None:
        connection.sendall(b"abc")

    async def read() -> list[bytes]:
        async with connected(close) as stream:
            return [await stream.read(2, 5), await stream.read(2, 5), await stream.read(2, 5)]

    assert uvloop.run(read()) == [b"ab", b"c", b""]
