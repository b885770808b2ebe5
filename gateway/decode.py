"""Bytes of an image file to RGB pixels, with the incumbent's semantics (OpenCV's ``imdecode(IMREAD_COLOR)``).

EXIF orientation is applied, alpha is dropped and not composited, gray is replicated, palettes are expanded, 16 bits a
channel become 8 by taking the high byte, CMYK is converted, and of an animation the first frame counts.
"""

import io
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from gateway.errors import InvalidImage

# The size is known from the header and judged below; Pillow's own limit, global and half a warning, would only differ.
Image.MAX_IMAGE_PIXELS = None

Image.init()
# Only these decoders ever see a client's bytes: Pillow has others that nobody needs and few have fuzzed.
_FORMATS: Final = tuple(f for f in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF") if f in Image.OPEN)


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
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if image.mode in ("LA", "PA", "La"):
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def _eight_bits(gray: NDArray[Any]) -> NDArray[np.uint8]:
    """16-bit gray by its high byte; what is wider (32-bit integers, floats) has no agreed range and is clipped."""
    if gray.dtype.itemsize == 2:
        return (gray.astype(np.uint16) >> 8).astype(np.uint8)
    if gray.dtype == np.int32 and gray.size and gray.max() > 255:
        return (np.clip(gray, 0, 65_535) >> 8).astype(np.uint8)
    return np.clip(np.nan_to_num(gray), 0, 255).astype(np.uint8)
