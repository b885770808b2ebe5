"""Measure other clients' responses while some are idle, or send a byte at a time, or never read their responses."""

import contextlib
import json
import resource
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from deploy.bench.harness import client, processes
from deploy.bench.harness.client import Response
from deploy.bench.harness.figures import Figure, at_most, exactly, observed
from deploy.bench.resilience.testbed import Testbed

_TRICKLING: Final = 100
_UNREADING: Final = 80  # more than may be in flight
_PIPELINED: Final = 8
_OTHERS: Final = 20
_SLOWEST_S: Final = 1.0
Step = Callable[[], None]  # what the slow clients do between the requests of others


def measure(testbed: Testbed) -> list[Figure]:
    """Measure each kind of slow client against a gateway of its own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(testbed.effort.connections, hard - 512 if hard > 0 else testbed.effort.connections)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + 512), hard))
    figures = []
    with testbed.gateway() as gateway:
        before = _descriptors(gateway.pid)
        for what, clients in (
            (f"{count} connections that send nothing", _idle(gateway.url, count)),
            (f"{_TRICKLING} clients that send a byte at a time", _trickling(gateway.url, _TRICKLING)),
            (f"{_UNREADING} clients that never read their responses", _unreading(gateway.url, _UNREADING)),
        ):
            memory = processes.memory_mb(gateway.pid)["now"]
            with clients as step:
                answers = _others(gateway.url, step, testbed.effort.load)
                growth = processes.memory_mb(gateway.pid)["now"] - memory
            figures += [
                exactly(f"{what}: others' responses other than 200", sum(a.status != 200 for a in answers), 0,
                        note=f"of {len(answers)}"),
                at_most("slowest of them", max(answer.seconds for answer in answers), _SLOWEST_S, "s", timed=True),
                at_most("memory of these connections", growth, 100, "MB"),
            ]  # fmt: skip
        time.sleep(1)
        figures.append(observed("file descriptors that stay open afterwards", _descriptors(gateway.pid) - before))
    return figures


@contextlib.contextmanager
def _connected(url: str, count: int, receive_buffer: int | None = None) -> Iterator[list[socket.socket]]:
    server = urlsplit(url)
    with contextlib.ExitStack() as stack:
        connections = []
        for _ in range(count):
            connection = stack.enter_context(socket.socket())
            if receive_buffer:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            connection.settimeout(10)
            connection.connect((server.hostname, server.port))
            connections.append(connection)
        yield connections


@contextlib.contextmanager
def _idle(url: str, count: int) -> Iterator[Step]:
    with _connected(url, count):
        yield lambda: None


@contextlib.contextmanager
def _trickling(url: str, count: int) -> Iterator[Step]:
    head = f"POST {client.IMAGE} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    with _connected(url, count) as connections:
        for connection in connections:
            connection.sendall(head.encode())

        def step() -> None:
            for connection in connections:
                with contextlib.suppress(OSError):  # The gateway has closed it, as it should sooner or later.
                    connection.sendall(b" ")

        time.sleep(1)  # For that long, each may be an honest client with a bad connection.
        yield step


@contextlib.contextmanager
def _unreading(url: str, count: int) -> Iterator[Step]:
    """Request more than the kernel buffers for a client that does not read, and then an embedding, all pipelined."""
    body = json.dumps({"text": "unread"}).encode()
    last = f"POST {client.TEXT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    pipelined = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * _PIPELINED + last
    with _connected(url, count, receive_buffer=4096) as connections:
        for connection in connections:
            connection.sendall(pipelined)
        time.sleep(1)
        yield lambda: None


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _others(url: str, step: Step, seconds: float) -> list[Response]:
    """Send ordinary requests, and let the slow clients do a step after each."""
    image = {"image": client.grey(5)}
    answers = []
    for _ in range(_OTHERS):
        answers.append(client.post(url, client.IMAGE, image, timeout=30))
        step()
        time.sleep(seconds / _OTHERS)
    return answers
