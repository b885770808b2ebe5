"""Clients that hold on to a connection: idle ones, ones that send a byte at a time, ones that never read an answer."""

import contextlib
import json
import resource
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from deploy.bench.harness import client as asking
from deploy.bench.harness import processes as cpu
from deploy.bench.harness.client import Answer
from deploy.bench.harness.figures import Figure, at_most, exactly, told
from deploy.bench.resilience import testbed as beds
from deploy.bench.resilience.testbed import Bed

_SLOW: Final = 100
_DEAF: Final = 80  # more than may be in flight
_UNREAD: Final = 8
_ASKED: Final = 20
_SLOWEST_S: Final = 1.0
Turn = Callable[[], None]  # what such a client does now and then


def measure(bed: Bed) -> list[Figure]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(bed.effort.connections, hard - 512 if hard > 0 else bed.effort.connections)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + 512), hard))
    figures = []
    with beds.gateway(bed.directory, [bed.stack]) as held:
        before = _descriptors(held.pid)
        for what, clients in (
            (f"{count} connections that say nothing", _idle(held.url, count)),
            (f"{_SLOW} clients that send a byte at a time", _trickling(held.url, _SLOW)),
            (f"{_DEAF} clients that never read their answers", _deaf(held.url, _DEAF)),
        ):
            memory = cpu.memory_mb(held.pid)["now"]
            with clients as turn:
                answers = _others(held.url, turn, bed.effort.load)
                grown = cpu.memory_mb(held.pid)["now"] - memory
            figures += [
                exactly(f"{what}: others' answers that are not 200", sum(a.status != 200 for a in answers), 0,
                        note=f"of {len(answers)}"),
                at_most("the slowest of them", max(answer.seconds for answer in answers), _SLOWEST_S, "s", timed=True),
                at_most("memory that these connections take", grown, 100, "MB"),
            ]  # fmt: skip
        time.sleep(1)
        figures.append(told("descriptors left open by all that", _descriptors(held.pid) - before))
    return figures


@contextlib.contextmanager
def _connected(url: str, count: int, receive_buffer: int | None = None) -> Iterator[list[socket.socket]]:
    place = urlsplit(url)
    with contextlib.ExitStack() as open_ones:
        connections = []
        for _ in range(count):
            connection = open_ones.enter_context(socket.socket())
            if receive_buffer:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            connection.settimeout(10)
            connection.connect((place.hostname, place.port))
            connections.append(connection)
        yield connections


@contextlib.contextmanager
def _idle(url: str, count: int) -> Iterator[Turn]:
    with _connected(url, count):
        yield lambda: None


@contextlib.contextmanager
def _trickling(url: str, count: int) -> Iterator[Turn]:
    head = f"POST {asking.IMAGE} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    with _connected(url, count) as connections:
        for connection in connections:
            connection.sendall(head.encode())

        def turn() -> None:
            for connection in connections:
                with contextlib.suppress(OSError):  # it was closed, as it should be sooner or later
                    connection.sendall(b" ")

        time.sleep(1)  # so long each may be an honest client with a bad connection
        yield turn


@contextlib.contextmanager
def _deaf(url: str, count: int) -> Iterator[Turn]:
    """Each asks for more than the kernel keeps for a client that does not read, then for an embedding, at once."""
    body = json.dumps({"text": "deaf"}).encode()
    last = f"POST {asking.TEXT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    asked = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * _UNREAD + last
    with _connected(url, count, receive_buffer=4096) as connections:
        for connection in connections:
            connection.sendall(asked)
        time.sleep(1)
        yield lambda: None


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _others(url: str, turn: Turn, seconds: float) -> list[Answer]:
    """What clients get that behave, meanwhile."""
    image = {"image": asking.image(asking.picture(5))}
    answers = []
    for _ in range(_ASKED):
        answers.append(asking.post(url, asking.IMAGE, image, timeout=30))
        turn()
        time.sleep(seconds / _ASKED)
    return answers
