"""HEIC, as iPhones send it. The picture was made by pillow-heif, whose encoder is no dependency."""

from typing import Final

import numpy as np
import pytest

from gateway.errors import InvalidImage
from gateway.images.decode import decode
from tests.pictures import HEIC

RED: Final = (200, 30, 40)
BLUE: Final = (20, 60, 220)


def test_a_heic_is_turned_once() -> None:
    image = decode(HEIC, 1_000)
    assert (image.mode, image.size) == ("RGB", (24, 16))
    pixels = np.asarray(image, np.int16)
    assert np.abs(pixels[:, :10] - BLUE).max() <= 3
    assert np.abs(pixels[:, 14:] - RED).max() <= 3


def test_exif_that_is_damaged_does_not_refuse_a_heic() -> None:
    at = HEIC.rindex(b"MM\0*")
    damaged = HEIC[:at] + b"\xff" * (len(HEIC) - at)
    np.testing.assert_array_equal(np.asarray(decode(damaged, 1_000)), np.asarray(decode(HEIC, 1_000)))


def test_metadata_of_an_unknown_type_do_not_refuse_a_heic() -> None:
    """pi-heif crashes on a type that is not UTF-8."""
    odd = HEIC.replace(b"\0\0Exif\0", b"\0\0\xff\xfe\xfd\xfc\0", 1)
    assert odd != HEIC
    np.testing.assert_array_equal(np.asarray(decode(odd, 1_000)), np.asarray(decode(HEIC, 1_000)))


def test_its_pixels_are_counted() -> None:
    with pytest.raises(InvalidImage, match="pixels; at most 300"):
        decode(HEIC, 300)


@pytest.mark.parametrize("length", [24, 100, 400, len(HEIC) - 80])
def test_a_truncated_heic_is_refused(length: int) -> None:
    with pytest.raises(InvalidImage, match="The HEIC image is damaged or incomplete"):
        decode(HEIC[:length], 10_000)
