"""HEIC, as iPhones send it. The picture was made by pillow-heif, whose encoder is no dependency."""

import base64
from typing import Final

import numpy as np
import pytest

from gateway.errors import InvalidImage
from gateway.images.decode import decode

RED: Final = (200, 30, 40)
BLUE: Final = (20, 60, 220)
# Stored upright, 16 x 24: red above blue. `irot` turns it, and EXIF says the same once more, for information.
TURNED: Final = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAbNtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAADRpbG9jAAAA"
    "AERAAAIAAQAAAAAB1wABAAAAAAAAAHAAAgAAAAACRwABAAAAAAAAACQAAAA4aWluZgAAAAAAAgAAABVpbmZlAgAAAAABAABodmMxAAAAABVpbmZl"
    "AgAAAQACAABFeGlmAAAAAA5waXRtAAAAAAABAAAA8mlwcnAAAADSaXBjbwAAAHVodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH/"
    "/wNwAAADAJAAAAMAAAMAHroCQGEAAQApQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbqrprm4CGgwIAAAAyAAAADAIRiAAEABkQBwXPBiQAAABRpc3Bl"
    "AAAAAAAAAEAAAABAAAAAKGNsYXAAAAAQAAAAAQAAABgAAAAB////0AAAAAL////YAAAAAgAAABBwaXhpAAAAAAMICAgAAAAJaXJvdAMAAAAYaXBt"
    "YQAAAAAAAAABAAEFgQIEg4UAAAAaaXJlZgAAAAAAAAAOY2RzYwACAAEAAQAAAJxtZGF0AAAAbCgBrwnIai0aI5tR/zV/+Tuhsgb76Fa5AVImJxJL"
    "/iB7Cr13m7ss1xz//7C//L5sEpD0AZX9VpJx2uk9Ow8IXYxx6J5HgY/FCeDE9bjby1mT3fGUsdaU0+LpJHlaiWXQ0Xbgxl8l6MNumsgG/gAAAAZF"
    "eGlmAABNTQAqAAAACAABARIAAwAAAAEABgAAAAAAAA=="
)


def test_a_heic_is_turned_once() -> None:
    image = decode(TURNED, 1_000, "Data is not image.")
    assert (image.mode, image.size) == ("RGB", (24, 16))
    pixels = np.asarray(image, np.int16)
    assert np.abs(pixels[:, :10] - BLUE).max() <= 3
    assert np.abs(pixels[:, 14:] - RED).max() <= 3


def test_exif_that_is_damaged_does_not_refuse_a_heic() -> None:
    at = TURNED.rindex(b"MM\0*")
    damaged = TURNED[:at] + b"\xff" * (len(TURNED) - at)
    np.testing.assert_array_equal(np.asarray(decode(damaged, 1_000, "")), np.asarray(decode(TURNED, 1_000, "")))


def test_its_pixels_are_counted() -> None:
    with pytest.raises(InvalidImage, match="pixels; at most 300"):
        decode(TURNED, 300, "Data is not image.")


@pytest.mark.parametrize("length", [24, 100, 400, len(TURNED) - 80])
def test_a_truncated_heic_is_refused(length: int) -> None:
    with pytest.raises(InvalidImage, match="Data is not image"):
        decode(TURNED[:length], 10_000, "Data is not image.")
