"""Of the gateway's process once it serves; in processes of their own, for none of it can be undone."""

import platform
import subprocess
import sys

import pytest

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="its allocator is what is told")

# As it comes about: images of 64 MB, each of which leaves something small behind that is kept.
GROWS = """
import gc, sys
from PIL import Image
from gateway import process_memory as memory
if sys.argv[1] == "told":
    assert memory.give_back_large_blocks()
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

SERVES = """
from gateway import serving
from gateway.settings import Settings
serving.Server.run = lambda *_: print(seen())
serving.serve(Settings(PE_TRITON_URL="127.0.0.1:1"))
"""

# After a block of 16 MB was freed, glibc left alone has the next one in a heap (mallopt(3), M_MMAP_THRESHOLD).
MAPPED = """
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

COLLECTED = """
import gc
def seen():
    return len(gc.get_objects())
"""


@glibc
def test_what_large_images_took_is_given_back() -> None:
    """MB, after five times two images."""
    grown = {how: _told_by(GROWS, how) for how in ("left alone", "told")}
    assert grown["told"] < 10, grown
    assert grown["left alone"] > 3 * grown["told"], grown


@glibc
def test_large_blocks_are_mapped_where_it_serves() -> None:
    assert _told_by(MAPPED + SERVES) == 1
    assert _told_by(MAPPED + "print(seen())") == 0


def test_what_was_built_is_not_looked_through_for_garbage() -> None:
    assert _told_by(COLLECTED + SERVES) < 10_000  # of several hundred thousand


def _told_by(program: str, *arguments: str) -> int:
    run = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    return int(run.stdout)
