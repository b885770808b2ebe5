import io
import zlib

import pytest
from PIL import Image

from deploy.bench.resilience import refusals as admission


def test_the_bomb_is_small_and_holds_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    data = admission.bomb()
    assert len(data) < 450_000
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size) == ("PNG", (20_000, 20_000))
    packed = data[data.index(b"IDAT") + 4 : data.index(b"IEND") - 8]
    unpacked = zlib.decompressobj()
    assert len(unpacked.decompress(packed, 50_000_000)) == 50_000_000  # there is what the header promises
