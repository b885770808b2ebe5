"""Measure which requests are refused, how soon, and in which order: by load, size, header, key, then body."""

import socket
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from deploy.bench.harness import client, processes
from deploy.bench.harness.figures import Figure, at_most, exactly
from deploy.bench.resilience.testbed import Testbed

_LIMIT: Final = 64 * 2**20  # bytes of a body: the gateway's default
_KEY: Final = "a-key-of-the-benchmark"
_SIDE: Final = 20_000


def measure(testbed: Testbed) -> list[Figure]:
    """Measure refusals of long bodies, of a decompression bomb, and of requests with several faults."""
    return [*_sizes(testbed), *_bomb(testbed), *_order(testbed)]


def _sizes(testbed: Testbed) -> list[Figure]:
    begun = time.perf_counter()
    unsent = _status_without_body(testbed.url, f"Content-Length: {_LIMIT + 1}\r\n\r\n".encode())
    seconds = time.perf_counter() - begun
    status, sent = _chunked(testbed.url)
    return [
        exactly("a body too long by its header, none of it sent: status", unsent, 413),
        at_most("that response after", seconds * 1e3, 50, "ms", timed=True),
        exactly("a body too long in chunks: status", status, 413),
        at_most("sent of it before the response", sent / 1e6, (_LIMIT + 8 * 2**20) / 1e6, "MB", timed=True),
    ]


def _status_without_body(url: str, headers: bytes) -> int:
    """Send the head of a request and no body, and return the status of the response."""
    server = urlsplit(url)
    with socket.create_connection((server.hostname or "", server.port or 80), timeout=30) as connection:
        connection.sendall(_head() + headers)
        return _status(connection.recv(4096))


def _head() -> bytes:
    return f"POST {client.IMAGE} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()


def _status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def _chunked(url: str) -> tuple[int, int]:
    """Send chunks until a response comes. Return its status and how many bytes were sent before it."""
    server, chunk, sent = urlsplit(url), bytes(2**20), 0
    with socket.create_connection((server.hostname or "", server.port or 80), timeout=30) as connection:
        connection.sendall(_head() + b"Transfer-Encoding: chunked\r\n\r\n")
        answer = b""
        try:
            while sent < 4 * _LIMIT and not answer:
                connection.sendall(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
                sent += len(chunk)
                connection.setblocking(False)
                try:
                    answer = connection.recv(4096)
                except BlockingIOError:
                    pass
                finally:
                    connection.setblocking(True)
        except ConnectionError:  # The gateway closed its side. Its response can still be read.
            connection.setblocking(True)
            answer = answer or connection.recv(4096)
        return _status(answer), sent


def bomb(side: int = _SIDE) -> bytes:
    """Encode a square PNG file of grey pixels.

    With a side of 20,000, some 400 kB decode to 400 MB, or 1.2 GB as RGB.
    """

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    packer, row = zlib.compressobj(9), bytes(side + 1)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _bomb(testbed: Testbed) -> list[Figure]:
    data, headers = bomb(), {"Content-Type": "image/png"}
    (gateway,) = testbed.stack.pids["gateway"]
    # The first image costs memory and time that later ones do not. It is not measured.
    client.request(testbed.url, "POST", client.IMAGE, data, headers)
    Path(f"/proc/{gateway}/clear_refs").write_text("5")  # resets the peak: proc(5)
    before = processes.memory_mb(gateway)["now"]
    answers = [client.request(testbed.url, "POST", client.IMAGE, data, headers) for _ in range(5)]
    growth = processes.memory_mb(gateway)["peak"] - before
    return [
        exactly(f"a PNG of {len(data) / 1e3:.0f} kB that holds {_SIDE}x{_SIDE} pixels: responses other than 400, of 5",
                sum(answer.status != 400 for answer in answers), 0),
        at_most("slowest of them", max(answer.seconds for answer in answers) * 1e3, 100, "ms", timed=True),
        at_most("growth of the gateway's memory", growth, 50, "MB"),
    ]  # fmt: skip


def _order(testbed: Testbed) -> list[Figure]:
    """Send requests with several faults. The status shows which fault is checked first."""
    valid: dict[str, Any] = {"image": client.grey(9)}
    bearer = {"Authorization": f"Bearer {_KEY}"}
    with testbed.gateway(PE_API_KEYS=f"another,{_KEY}", PE_MAX_IN_FLIGHT="1") as strict:

        def post(value: object, headers: dict[str, str] | None = None, query: str = "") -> int:
            return client.post(strict.url, client.IMAGE + query, value, headers).status

        def too_long() -> int:
            return _status_without_body(strict.url, f"Content-Length: {_LIMIT + 1}\r\n\r\n".encode())

        testbed.stub.behave(seconds=1.0)
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(post, valid, bearer)
            time.sleep(0.4)
            busy = too_long()
            ahead.result()
        testbed.stub.behave()
        cases = [
            ("busy, too long and without a key", busy, 429),
            ("too long and without a key", too_long(), 413),
            ("without a key, and not JSON", client.request(strict.url, "POST", client.IMAGE, b"{").status, 401),
            ("a wrong key", post(valid, {"Authorization": "Bearer no"}), 401),
            ("a key in the body, and no image", post({"api_key": _KEY}), 422),
            ("a key in the body", post({**valid, "api_key": _KEY}), 200),
            ("a key in the query", post(valid, query=f"?api_key={_KEY}"), 200),
            ("a key as Bearer", post(valid, bearer), 200),
            ("/healthz without a key", client.get(strict.url, "/healthz").status, 200),
        ]
        logged = _KEY in strict.log.read_text(errors="replace")
    return [
        *(exactly(f"{what}: status", status, wanted) for what, status, wanted in cases),
        exactly("keys in the log", logged, 0),
    ]
