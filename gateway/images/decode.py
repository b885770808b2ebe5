"""Decode an image file to RGB pixels, as the incumbent does (OpenCV's `imdecode(IMREAD_COLOR)`).

EXIF orientation is applied. Alpha is dropped, not composited. Gray becomes three equal channels. Palettes are expanded.
Of 16 bits a channel, the high byte is used. CMYK is converted. Of an animation, the first frame is used.
"""

import io
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from gateway.errors import InvalidImage

# `decode` checks the size in the header. Pillow's own limit is global, and only a warning up to twice its value.
Image.MAX_IMAGE_PIXELS = None

Image.init()
# A client's bytes reach only these decoders. Pillow's other decoders are rarely used and rarely fuzzed.
FORMATS: Final = tuple(f for f in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF") if f in Image.OPEN)
# Pillow hands pixels to numpy in many small copies, which fragment the heap. So a gray image is converted in bands.
_BAND_PIXELS: Final = 1 << 18


def decode(data: bytes | bytearray, max_pixels: int, malformed: str) -> Image.Image:
    """Decode the first frame of an image file to an upright RGB image with 8 bits a channel.

    Args:
        data: the file.
        max_pixels: the largest allowed product of width and height, checked before any pixel is decoded.
        malformed: the error's cause if the data is not an image. The incumbent words it by how the image was sent.

    Raises:
        InvalidImage: the image is damaged, truncated, too large, or of an unknown format.
    """
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = image.size
        if width * height > max_pixels:
            raise InvalidImage(f"The image has {width}x{height} pixels; at most {max_pixels} are allowed.")
        image.load()
        ImageOps.exif_transpose(image, in_place=True)  # `in_place`, because otherwise an upright image is copied
        return _rgb(image)
    except InvalidImage:
        raise
    except MemoryError:
        raise InvalidImage("The image does not fit into memory.") from None
    except Exception:
        # For damaged files, Pillow raises OSError, SyntaxError, struct.error, zlib.error and many others.
        raise InvalidImage(malformed) from None


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith(("I", "F")):  # Pillow's `convert` clips these values instead of scaling them
        return _eight_bits(image).convert("RGB")
    if image.mode in ("LA", "PA", "La"):
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Convert gray to 8 bits: the high byte of 16. Floats and 32-bit integers have no agreed range and are clipped."""
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
