"""Measure what others notice of small requests that ask for much work or memory: images, forms, JSON, trailers."""

import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from deploy.bench.harness import client, processes
from deploy.bench.harness.figures import Figure, at_most, exactly
from deploy.bench.resilience.health_poll import Poll
from deploy.bench.resilience.testbed import Testbed

_AT_A_TIME: Final = 4
_SECONDS: Final = 3.0
_HEALTH_MS: Final = 250
_HONEST_S: Final = 1.0
_GROWTH_MB: Final = 150
_MAX_TRAILERS_MB: Final = 10
_MOST_TRAILERS: Final = 200 * 10**6


class Attack(NamedTuple):
    """A hostile request.

    Attributes:
        name: what it is.
        path: the route.
        kind: the media type.
        body: the bytes.
        right: the statuses that are right.
    """

    name: str
    path: str
    kind: str
    body: bytes
    right: frozenset[int]


def measure(testbed: Testbed) -> list[Figure]:
    """Send each request over and over from several clients, and honest images beside them."""
    figures = []
    with testbed.gateway() as gateway:
        client.post(gateway.url, client.IMAGE, {"image": client.grey(5)})
        before = processes.shared_memory_mb([gateway.pid])
        for attack in attacks():
            figures += _measure(gateway.url, attack)
        figures.append(_trailers(gateway.url))
        time.sleep(1)
        growth = processes.shared_memory_mb([gateway.pid]) - before
        figures.append(at_most("memory that stays after all of them", growth, _GROWTH_MB, "MB"))
    return figures


def _measure(url: str, attack: Attack) -> list[Figure]:
    statuses: list[int] = []

    def attacks_once() -> None:
        headers = {"Content-Type": attack.kind, "X-Request-Timeout": "1"}
        statuses.append(client.request(url, "POST", attack.path, attack.body, headers).status)

    honest: list[client.Response] = []
    with Poll(url, "/healthz") as poll, _repeated(attacks_once, _AT_A_TIME):
        end = time.monotonic() + _SECONDS
        while time.monotonic() < end or not honest:
            honest.append(client.post(url, client.IMAGE, {"image": client.grey(5)}))
            time.sleep(0.05)
    wrong = sorted({status for status in statuses if status not in attack.right})
    slowest = max(answer.seconds for answer in honest)
    return [
        exactly(f"{attack.name}: wrong responses, of {len(statuses)}", sum(s not in attack.right for s in statuses), 0,
                note=" ".join(map(str, wrong))),
        exactly("honest images without an embedding", sum(answer.status != 200 for answer in honest), 0,
                note=f"of {len(honest)}"),
        at_most("slowest of them", slowest, _HONEST_S, "s", timed=True),
        at_most("slowest response of /healthz", poll.slowest * 1e3, _HEALTH_MS, "ms", timed=True),
    ]  # fmt: skip


@contextmanager
def _repeated(act: Callable[[], None], threads: int) -> Iterator[None]:
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            act()

    running = [threading.Thread(target=work) for _ in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in running:
            thread.join()


def _trailers(url: str) -> Figure:
    """Send header lines without end after the last chunk of a body. The kernel takes some MB that nobody reads."""
    host = urlsplit(url)
    head = f"POST {client.TEXT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n".encode()
    lines, sent = b"a: b\r\n" * 5_000, 0
    with socket.create_connection((host.hostname or "", host.port), timeout=3) as connection:
        try:
            connection.sendall(head)
            while sent < _MOST_TRAILERS:
                connection.sendall(lines)
                sent += len(lines)
        except OSError:
            pass
    return at_most("trailers sent until the connection ended", sent / 1e6, _MAX_TRAILERS_MB, "MB", timed=True)


def attacks() -> list[Attack]:
    """Build the requests."""
    refused = frozenset({400, 413, 422})
    form = b'--X\r\nContent-Disposition: form-data; name="image"\r\n\r\nz-' + b"9" * 100_000 + b"\r\n--X--\r\n"
    many = b",".join([b"1"] * 100_000)
    return [
        Attack("a JPEG of 800 scans", client.IMAGE, "image/jpeg", _jpeg(8_000, 800), frozenset({400, 429, 504})),
        Attack("a TIFF of 400 tags that share a megabyte", client.IMAGE, "image/tiff", _tags(400),
               refused | {200, 429, 504}),
        Attack("a TIFF with a tile of 16384x16384", client.IMAGE, "image/tiff", _tile(16_384), refused),
        Attack("a form in a slow codec", client.IMAGE, "multipart/form-data; boundary=X; charset=punycode", form,
               refused),
        Attack("100,000 numbers as inputs", "/v1/embeddings", client.JSON, b'{"input":[' + many + b"]}", refused),
        Attack("100,000 numbers as prompts", client.COMPARE, client.JSON,
               b'{"subject":"a","prompt":[' + many + b"]}", refused),
        Attack("JSON of 8 MB of empty lists", client.TEXT, client.JSON,
               b'{"text":"a","x":[' + b"[]," * (8 * 2**20 // 3) + b"[]]}", refused | {200}),
        Attack("JSON of 100,000 brackets", client.TEXT, client.JSON, b'{"text":"a","x":' + b"[" * 100_000, refused),
        Attack("a number of a million digits", client.TEXT, client.JSON,
               b'{"text":"a","x":' + b"9" * 1_000_000 + b"}", refused | {200}),
    ]  # fmt: skip


def _segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def _jpeg(side: int, scans: int) -> bytes:
    """Encode a progressive gray JPEG whose scans, but for the first, say that nothing changes (ITU-T T.81, G.1.2.2)."""
    blocks = ((side + 7) // 8) ** 2
    tables = _segment(0xC4, bytes([0x00, 1, *[0] * 15, 0])) + _segment(0xC4, bytes([0x10, 0, 1, *[0] * 14, 0xE0]))
    frame = _segment(0xC2, struct.pack(">BHHBBBB", 8, side, side, 1, 1, 0x11, 0))
    head = b"\xff\xd8" + _segment(0xDB, bytes([0] + [1] * 64)) + frame + tables
    first = _segment(0xDA, bytes([1, 1, 0x00, 0, 0, 0])) + bytes(blocks // 8 + 1)
    run = 2**15 - 1  # blocks of one end-of-band run: its code, 00, and 14 bits
    bits = f"00{run - 2**14:014b}" * (blocks // run)
    bits += "1" * (-len(bits) % 8)
    data = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)).replace(b"\xff", b"\xff\0")
    return head + first + (_segment(0xDA, bytes([1, 1, 0x00, 1, 63, 0])) + data) * scans + b"\xff\xd9"


def _tiff(tags: list[tuple[int, int, int, int]], data: bytes) -> bytes:
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data


def _tags(count: int) -> bytes:
    size, offset = 1 << 20, 8 + 2 + 12 * (9 + count) + 4
    tags = [(256, 4, 1, 64), (257, 4, 1, 64), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, offset),
            (277, 3, 1, 1), (278, 4, 1, 64), (279, 4, 1, 4096)]  # fmt: skip
    return _tiff(tags + [(0xC000 + n, 7, size, offset) for n in range(count)], b"\x80" * size)


def _tile(side: int) -> bytes:
    packer = zlib.compressobj(9)
    data = b"".join([packer.compress(bytes(1 << 20)) for _ in range(side * side >> 20)] + [packer.flush()])
    offset = 8 + 2 + 12 * 10 + 4
    tags = [(256, 4, 1, 16), (257, 4, 1, 16), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1),
            (322, 4, 1, side), (323, 4, 1, side), (324, 4, 1, offset), (325, 4, 1, len(data))]  # fmt: skip
    return _tiff(tags, data)
