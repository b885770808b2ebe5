"""Measure how soon a small image file with too many pixels is refused, and the memory that the refusal takes."""

import struct
import zlib
from pathlib import Path
from typing import Final

from deploy.bench.harness import client, processes
from deploy.bench.harness.figures import Figure, at_most, exactly
from deploy.bench.resilience.testbed import Testbed

_SIDE: Final = 20_000


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


def measure(testbed: Testbed) -> list[Figure]:
    """Send the file six times, and measure all but the first."""
    data, headers = bomb(), {"Content-Type": "image/png"}
    # The first image costs memory and time that later ones do not.
    client.request(testbed.url, "POST", client.IMAGE, data, headers)
    gateways = processes.with_descendants(testbed.stack.pids["gateway"])
    for pid in gateways:
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # resets the peak: proc(5)
    before = {pid: processes.memory_mb(pid)["now"] for pid in gateways}
    answers = [client.request(testbed.url, "POST", client.IMAGE, data, headers) for _ in range(5)]
    growth = sum(processes.memory_mb(pid)["peak"] - now for pid, now in before.items())
    return [
        exactly(f"a PNG of {len(data) / 1e3:.0f} kB that holds {_SIDE}x{_SIDE} pixels: responses other than 400, of 5",
                sum(answer.status != 400 for answer in answers), 0),
        at_most("slowest of them", max(answer.seconds for answer in answers) * 1e3, 100, "ms", timed=True),
        at_most("growth of the gateway's memory", growth, 50, "MB"),
    ]  # fmt: skip
