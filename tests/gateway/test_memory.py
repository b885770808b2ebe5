"""Of the gateway's process once it serves; in processes of their own, for none of it can be undone."""

import platform
import subprocess
import sys

import pytest

# As it comes about: images of 64 MB, each of which leaves something small behind that is kept.
GROWS = """
import gc, sys
from PIL import Image
from gateway import serving
from gateway.settings import Settings
def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096 >> 20
kept = []
def one():
    image = Image.new("RGB", (4096, 4096), (1, 2, 3))
    kept.append(bytearray(100_000))
    return image
def grow(*_):
    before = resident()
    for _ in range(5):
        images = [one(), one()]
        del images
        gc.collect()
    print(resident() - before)
if sys.argv[1] == "serving":
    serving.Server.run = grow
    serving.serve(Settings(PE_TRITON_URL="127.0.0.1:1"))
else:
    grow()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="its allocator is what is told")
def test_what_large_images_took_is_given_back() -> None:
    """MB, after five times two images."""
    grown = {how: _told_by(GROWS, how) for how in ("left alone", "serving")}
    assert grown["serving"] < 10, grown
    assert grown["left alone"] > 3 * grown["serving"], grown


SERVES = """
import gc
from gateway import serving
from gateway.settings import Settings
serving.Server.run = lambda *_: print(len(gc.get_objects()))
serving.serve(Settings(PE_TRITON_URL="127.0.0.1:1"))
"""


def test_what_serves_is_not_looked_through_for_garbage() -> None:
    assert _told_by(SERVES) < 10_000  # of several hundred thousand


def _told_by(program: str, *arguments: str) -> int:
    run = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    return int(run.stdout)
