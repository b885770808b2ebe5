"""Memory settings of a serving process. Each test uses a separate process, because the settings cannot be undone."""

import platform
import subprocess
import sys
from typing import Final

import pytest

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")

# Images of 64 MB, each of which leaves a small block on the heap behind it.
GROWS: Final = """
import gc, sys
from PIL import Image
from gateway.process_memory import set_malloc_thresholds
if sys.argv[1] == "set":
    assert set_malloc_thresholds()
def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096 >> 20
kept = []
def one():
    image = Image.new("RGB", (4096, 4096), (1, 2, 3))
    kept.append(bytearray(100_000))
    return image
before = resident()
for _ in range(5):
    images = [one(), one()]
    del images
    gc.collect()
print(resident() - before)
"""

# Texts of which each tenth is kept.
FRAGMENTS: Final = """
import asyncio, contextlib, sys
from gateway import process_memory
process_memory._SECONDS_BETWEEN_TRIMS = 0.01
async def main():
    before = process_memory.resident_bytes()
    returning = asyncio.create_task(process_memory.return_freed_memory())
    await asyncio.sleep(0)
    kept = [bytes(8_000) for _ in range(10_000)][::10]
    if sys.argv[1] == "return":
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(30):
                while process_memory.resident_bytes() > before + (20 << 20):
                    await asyncio.sleep(0.01)
    print(process_memory.resident_bytes() - before >> 20)
asyncio.run(main())
"""

SERVES: Final = """
from gateway import serving
from gateway.settings import Settings
serving.Server.run = lambda *_: print(seen())
serving.serve(Settings(PE_TRITON_URL="127.0.0.1:1"), [])
"""

# By default, after a block of 16 MB was freed, glibc allocates the next one on the heap (mallopt(3), M_MMAP_THRESHOLD).
MAPPED: Final = """
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
class Info(ctypes.Structure):  # mallinfo(3): hblks, the number of mapped blocks, is its fourth
    _fields_ = [("before", ctypes.c_int * 3), ("mapped", ctypes.c_int), ("after", ctypes.c_int * 6)]
libc.mallinfo.restype = Info
def seen():
    libc.free(ctypes.c_void_p(libc.malloc(16 << 20)))
    before = libc.mallinfo().mapped
    libc.malloc(16 << 20)
    return libc.mallinfo().mapped - before
"""

COLLECTED: Final = """
import gc
def seen():
    return len(gc.get_objects())
"""


@pytest.mark.slow
@glibc
def test_memory_of_large_images_returns_to_the_system() -> None:
    """Growth in MB after five times two images."""
    grown = {thresholds: _output_of(GROWS, thresholds) for thresholds in ("default", "set")}
    assert grown["set"] < 10, grown
    assert grown["default"] > 3 * grown["set"], grown


@pytest.mark.slow
@glibc
def test_memory_between_texts_returns_to_the_system() -> None:
    assert _output_of(FRAGMENTS, "return") <= 20
    assert _output_of(FRAGMENTS, "keep") > 60


@pytest.mark.slow
@glibc
def test_large_blocks_are_mapped_while_serving() -> None:
    assert _output_of(MAPPED + SERVES) == 1
    assert _output_of(MAPPED + "print(seen())") == 0


@pytest.mark.slow
def test_objects_made_before_serving_are_not_collected() -> None:
    assert _output_of(COLLECTED + SERVES) < 10_000  # of several hundred thousand


def _output_of(program: str, *arguments: str) -> int:
    run = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    return int(run.stdout)
