"""Bytes of an image file to RGB pixels, with the incumbent's semantics (OpenCV's ``imdecode(IMREAD_COLOR)``).

EXIF orientation is applied, alpha is dropped and not composited, gray is replicated, palettes are expanded, 16 bits a
channel become 8 by taking the high byte, CMYK is converted, and of an animation the first frame counts.
"""

import io
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from gateway.errors import InvalidImage

# The size is known from the header and judged below; Pillow's own limit, global and half a warning, would only differ.
Image.MAX_IMAGE_PIXELS = None

Image.init()
# Only these decoders ever see a client's bytes: Pillow has others that nobody needs and few have fuzzed.
_FORMATS: Final = tuple(f for f in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF") if f in Image.OPEN)
# numpy gets an image's pixels by way of many small copies, which then leave holes in the heap: a few at a time.
_BAND_PIXELS: Final = 1 << 18


def decode(data: bytes, max_pixels: int, malformed: str) -> Image.Image:
    """An image file's first frame as an upright RGB image, 8 bits a channel.

    Args:
        data: the file.
        max_pixels: refuse larger ones before any pixel is decoded.
        malformed: what to answer when this is no image, which depends on how it came.

    Raises:
        InvalidImage: not an image of a known format, damaged, truncated or too large.
    """
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=_FORMATS)
        width, height = image.size
        if width * height > max_pixels:
            raise InvalidImage(f"The image has {width}x{height} pixels; at most {max_pixels} are allowed.")
        image.load()
        ImageOps.exif_transpose(image, in_place=True)  # in place, or an upright image would be copied for nothing
        return _rgb(image)
    except InvalidImage:
        raise
    except MemoryError:
        raise InvalidImage("The image does not fit into memory.") from None
    except Exception:
        # Decoders of damaged files raise nearly anything: OSError, SyntaxError, struct.error, zlib.error, ...
        raise InvalidImage(malformed) from None


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith(("I", "F")):  # Pillow's own conversion clips these instead of scaling them
        return _eight_bits(image).convert("RGB")
    if image.mode in ("LA", "PA", "La"):
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit gray by its high byte; what is wider (32-bit integers, floats) has no agreed range and is clipped."""
    width, height = image.size
    deep = image.mode.startswith("I;16") or (image.mode == "I" and cast(int, image.getextrema()[1]) > 255)
    gray = Image.new("L", image.size)
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        band = np.asarray(image.crop((0, top, width, min(top + rows, height))))
        gray.paste(Image.fromarray(_high_bytes(band) if deep else _clipped(band)), (0, top))
    return gray


def _high_bytes(gray: NDArray[Any]) -> NDArray[np.uint8]:
    return (np.clip(gray, 0, 65_535) >> 8).astype(np.uint8)


def _clipped(gray: NDArray[Any]) -> NDArray[np.uint8]:
    return np.clip(np.nan_to_num(gray), 0, 255).astype(np.uint8)
