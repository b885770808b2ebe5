"""`decode` gives the pixels of the incumbent's decoder, `cv2.imdecode(IMREAD_COLOR)`. OpenCV comes with inference-sdk.

Intended differences: OpenCV multiplies the colours of a TIFF by its alpha, and ignores EXIF in WebP. The others are in
`gateway/images/README.md`.
"""

from typing import Any, Final

import cv2
import numpy as np
import pytest
from PIL import Image

from gateway.images.decode import decode
from tests.gateway.images.containers import jpeg_with, png_with
from tests.gateway.images.test_bare import JPEG, JPEGS, PNG, PNGS
from tests.pictures import PHOTOGRAPHS, encoded

PHOTOGRAPH: Final = Image.open(PHOTOGRAPHS[0]).convert("RGB").resize((160, 120))
WITH_ALPHA: Final = PHOTOGRAPH.copy()
WITH_ALPHA.putalpha(Image.linear_gradient("L").resize(PHOTOGRAPH.size))
SIXTEEN_BITS: Final = Image.fromarray(np.random.default_rng(0).integers(0, 65_536, (50, 60), np.uint16))
ROTATED: Final = Image.Exif()
ROTATED[0x0112] = 6


@pytest.mark.parametrize(
    ("image", "options", "tolerance"),
    [
        (PHOTOGRAPH, {"kind": "JPEG"}, 0),
        (PHOTOGRAPH, {"kind": "JPEG", "progressive": True}, 0),
        (PHOTOGRAPH, {"kind": "JPEG", "exif": ROTATED}, 0),
        (PHOTOGRAPH, {"kind": "JPEG", "subsampling": 0, "quality": 60}, 0),
        (PHOTOGRAPH.convert("L"), {"kind": "JPEG"}, 0),
        (PHOTOGRAPH.convert("CMYK"), {"kind": "JPEG"}, 1),
        (PHOTOGRAPH, {"kind": "PNG"}, 0),
        (PHOTOGRAPH.convert("L"), {"kind": "PNG"}, 0),
        (PHOTOGRAPH.convert("1"), {"kind": "PNG"}, 0),
        (PHOTOGRAPH.convert("P"), {"kind": "PNG"}, 0),
        (WITH_ALPHA, {"kind": "PNG"}, 0),
        (WITH_ALPHA.convert("LA"), {"kind": "PNG"}, 0),
        (SIXTEEN_BITS, {"kind": "PNG"}, 0),
        (PHOTOGRAPH, {"kind": "WEBP", "lossless": True}, 0),
        (PHOTOGRAPH, {"kind": "WEBP"}, 0),
        (WITH_ALPHA, {"kind": "WEBP", "lossless": True, "exact": True}, 0),
        (PHOTOGRAPH, {"kind": "BMP"}, 0),
        (PHOTOGRAPH, {"kind": "AVIF"}, 0),
        (PHOTOGRAPH.quantize(64), {"kind": "GIF"}, 0),
        (PHOTOGRAPH, {"kind": "PPM"}, 0),
        (PHOTOGRAPH.convert("L"), {"kind": "PPM"}, 0),
        (PHOTOGRAPH.convert("1"), {"kind": "PPM"}, 0),
        (PHOTOGRAPH, {"kind": "JPEG2000"}, 0),
        (PHOTOGRAPH, {"kind": "TIFF"}, 0),
        (PHOTOGRAPH, {"kind": "TIFF", "compression": "tiff_lzw"}, 0),
        (SIXTEEN_BITS, {"kind": "TIFF"}, 0),
    ],
    ids=lambda value: (
        "-".join(map(str, value.values())) if isinstance(value, dict) else getattr(value, "mode", str(value))
    ),
)
def test_it_gives_the_incumbents_pixels(image: Image.Image, options: dict[str, Any], tolerance: int) -> None:
    data = encoded(image, **options)
    incumbent = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert incumbent is not None
    ours = np.asarray(decode(data, 1_000_000))
    assert ours.shape == incumbent.shape
    assert np.abs(ours.astype(np.int16) - incumbent[..., ::-1]).max() <= tolerance


# OpenCV reads two bytes of an orientation whatever its type is.
ODD_TYPES: Final = ("an unknown type", "an orientation in fractions")


@pytest.mark.parametrize("name", [name for name in PNGS if not name.endswith(ODD_TYPES)])
def test_it_opens_png_with_the_metadata_that_the_incumbent_opens(name: str) -> None:
    _compare(png_with(PNGS[name], PNG))


@pytest.mark.parametrize("name", [name for name in JPEGS if not name.endswith(ODD_TYPES)])
def test_it_opens_jpeg_with_the_metadata_that_the_incumbent_opens(name: str) -> None:
    _compare(jpeg_with(JPEGS[name], JPEG))


def _compare(data: bytes) -> None:
    """What OpenCV does not open is opened too: `test_bare.py`."""
    incumbent = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if incumbent is not None:
        np.testing.assert_array_equal(np.asarray(decode(data, 1_000_000)), incumbent[..., ::-1])
