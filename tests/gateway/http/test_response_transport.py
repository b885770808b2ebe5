import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.http.response_transport import ResponseTransport

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class Socket(asyncio.Transport):
    """Records what is written by one call each."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))


@pytest.fixture
def socket() -> Socket:
    return Socket()


def transport(socket: Socket, *, response_started: bool) -> ResponseTransport:
    connection: Any = SimpleNamespace(cycle=SimpleNamespace(response_started=response_started))
    return ResponseTransport(socket, connection)


def test_a_head_and_a_small_body_are_one_write(socket: Socket) -> None:
    responses = transport(socket, response_started=True)
    for part in (HEAD, b"first", b"second"):
        responses.write(part)
    assert socket.writes == [HEAD + b"first", b"second"]


def test_a_large_body_is_not_copied(socket: Socket) -> None:
    responses = transport(socket, response_started=True)
    responses.write(HEAD)
    responses.write(bytes(2**20))
    assert socket.writes == [HEAD, bytes(2**20)]


def test_a_head_without_a_body_is_written_at_the_end(socket: Socket) -> None:
    responses = transport(socket, response_started=True)
    responses.write(HEAD)
    assert socket.writes == []
    responses.end()
    assert socket.writes == [HEAD]


def test_each_response_has_a_head(socket: Socket) -> None:
    responses = transport(socket, response_started=True)
    for _ in range(2):
        responses.write(HEAD)
        responses.write(b"body")
        responses.end()
    assert socket.writes == [HEAD + b"body"] * 2


def test_an_interim_response_does_not_wait(socket: Socket) -> None:
    transport(socket, response_started=False).write(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert socket.writes == [b"HTTP/1.1 100 Continue\r\n\r\n"]
