"""What is refused, how soon, and in which order: load and length by header, key, body."""

import socket
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from deploy.bench.harness import client as asking
from deploy.bench.harness import processes as cpu
from deploy.bench.harness.figures import Figure, at_most, exactly
from deploy.bench.resilience import testbed as beds
from deploy.bench.resilience.testbed import Bed

_LIMIT: Final = 64 * 2**20  # bytes of a body: the gateway's own default
_KEY: Final = "a-key-of-the-hold"
_SIDE: Final = 20_000


def measure(bed: Bed) -> list[Figure]:
    return [*_sizes(bed), *_bomb(bed), *_order(bed)]


def _sizes(bed: Bed) -> list[Figure]:
    begun = time.perf_counter()
    unsent = _raw(bed.url, f"Content-Length: {_LIMIT + 1}\r\n\r\n".encode())
    soon = time.perf_counter() - begun
    status, sent = _chunked(bed.url)
    return [
        exactly("a body too long by its header, none of it sent: status", unsent, 413),
        at_most("that answer after", soon * 1e3, 50, "ms", timed=True),
        exactly("a body too long in chunks: status", status, 413),
        at_most("sent of it, until the answer came", sent / 1e6, (_LIMIT + 8 * 2**20) / 1e6, "MB", timed=True),
    ]


def _raw(url: str, rest: bytes) -> int:
    """The status of an answer to a request without a body."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname or "", place.port or 80), timeout=30) as connection:
        connection.sendall(_head() + rest)
        return _status(connection.recv(4096))


def _head() -> bytes:
    return f"POST {asking.IMAGE} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()


def _status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def _chunked(url: str) -> tuple[int, int]:
    """Sends chunk after chunk until an answer comes: its status, and how many bytes went before it."""
    place, chunk, sent = urlsplit(url), bytes(2**20), 0
    with socket.create_connection((place.hostname or "", place.port or 80), timeout=30) as connection:
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
        except ConnectionError:  # it closed its side; what it said before can still be read
            connection.setblocking(True)
            answer = answer or connection.recv(4096)
        return _status(answer), sent


def bomb() -> bytes:
    """A PNG file of 20000x20000 grey pixels: some 400 kB that would be 400 MB, or 1.2 GB as RGB."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    packer, row = zlib.compressobj(9), bytes(_SIDE + 1)
    data = b"".join(packer.compress(row) for _ in range(_SIDE)) + packer.flush()
    header = struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _bomb(bed: Bed) -> list[Figure]:
    data = bomb()
    (gateway,) = bed.stack.pids["gateway"]
    # Once without being timed: what a first image costs is not the bomb's doing.
    asking.ask(bed.url, "POST", asking.IMAGE, data, {"Content-Type": "image/png"})
    Path(f"/proc/{gateway}/clear_refs").write_text("5")  # the peak from here on: proc(5)
    before = cpu.memory_mb(gateway)["now"]
    answers = [asking.ask(bed.url, "POST", asking.IMAGE, data, {"Content-Type": "image/png"}) for _ in range(5)]
    grown = cpu.memory_mb(gateway)["peak"] - before
    return [
        exactly(f"a PNG of {len(data) / 1e3:.0f} kB that holds {_SIDE}x{_SIDE} pixels: answers other than 400, of 5",
                sum(answer.status != 400 for answer in answers), 0),
        at_most("the last of them after", max(answer.seconds for answer in answers) * 1e3, 100, "ms", timed=True),
        at_most("memory that they took", grown, 50, "MB"),
    ]  # fmt: skip


def _order(bed: Bed) -> list[Figure]:
    """Each wrong in several ways: what it is told is what comes first."""
    right: dict[str, Any] = {"image": asking.image(asking.picture(9))}
    long, bearer = {"Content-Length": str(_LIMIT + 1)}, {"Authorization": f"Bearer {_KEY}"}
    with beds.gateway(bed.directory, [bed.stack], PE_API_KEYS=f"another,{_KEY}", PE_MAX_IN_FLIGHT="1") as strict:

        def too_long() -> int:
            return _raw(strict.url, b"".join(f"{k}: {v}\r\n".encode() for k, v in long.items()) + b"\r\n")

        bed.stand_in.behave(seconds=1.0)
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(asking.post, strict.url, asking.IMAGE, right, bearer)
            time.sleep(0.4)
            busy = too_long()
            ahead.result()
        bed.stand_in.behave()
        cases = [
            ("busy, too long and without a key", busy, 429),
            ("too long and without a key", too_long(), 413),
            ("without a key, and no JSON", asking.ask(strict.url, "POST", asking.IMAGE, b"{").status, 401),
            ("a wrong key", asking.post(strict.url, asking.IMAGE, right, {"Authorization": "Bearer no"}).status, 401),
            ("a key in the body, and no image", asking.post(strict.url, asking.IMAGE, {"api_key": _KEY}).status, 422),
            ("a key in the body", asking.post(strict.url, asking.IMAGE, {**right, "api_key": _KEY}).status, 200),
            ("a key in the query", asking.post(strict.url, f"{asking.IMAGE}?api_key={_KEY}", right).status, 200),
            ("a key as Bearer", asking.post(strict.url, asking.IMAGE, right, bearer).status, 200),
            ("/healthz without a key", asking.get(strict.url, "/healthz").status, 200),
        ]
        told = _KEY in strict.log.read_text(errors="replace")
    return [
        *(exactly(f"{what}: status", status, wanted) for what, status, wanted in cases),
        exactly("keys in the log", told, 0),
    ]
