"""In processes of their own: what is tested cannot be undone."""

import subprocess
import sys

import pytest

# As it comes about: images of 64 MB, each of which leaves something small behind that is kept.
GROWS = """
import gc, sys
from PIL import Image
from gateway import memory
if sys.argv[1] == "settled":
    assert memory.settle()
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


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_what_large_images_took_is_given_back() -> None:
    grown = {how: _grown(how) for how in ("left alone", "settled")}
    assert grown["settled"] < 10, grown
    assert grown["left alone"] > 3 * grown["settled"], grown


def _grown(how: str) -> int:
    """MB."""
    run = subprocess.run([sys.executable, "-c", GROWS, how], capture_output=True, text=True, check=True)
    return int(run.stdout)
