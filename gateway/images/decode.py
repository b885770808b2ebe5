"""Decode an image file to RGB pixels, as the incumbent does (OpenCV's `imdecode(IMREAD_COLOR)`).

EXIF orientation is applied. Alpha is dropped, not composited. Gray becomes three equal channels. Palettes are expanded.
Of 16 bits a channel, the high byte is used. CMYK is converted. Of an animation, the first frame is used.
"""

import io
import logging
import warnings
from typing import Any, Final, cast

import _pi_heif
import numpy as np
from numpy.typing import NDArray
from pi_heif.heif import BaseImage
from PIL import AvifImagePlugin, Image
from PIL.GifImagePlugin import GifImageFile
from PIL.TiffImagePlugin import TiffImageFile

from gateway.errors import InvalidImage
from gateway.images import tiff_layouts
from gateway.images.bare import (
    Bare,
    bare_bmp,
    bare_gif,
    bare_jp2,
    bare_jpeg,
    bare_png,
    bare_tiff,
    bare_webp,
    ended_jpeg,
)
from gateway.images.bmp import RunLengthDecoder
from gateway.images.decoder import NO_MEMORY
from gateway.images.formats import ACCEPTED_TEXT, format_of
from gateway.images.tiff import orientation_of

# `decode` checks the size in the header. Pillow's own limit is global, and only a warning up to twice its value.
Image.MAX_IMAGE_PIXELS = None
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # otherwise a thread for each CPU of the machine, for each image
# What a client's file says is no event of the server.
logging.getLogger("PIL").setLevel(logging.CRITICAL)
warnings.filterwarnings("ignore", module=r"PIL\.")

Image.init()
Image.register_decoder("bmp_rle", RunLengthDecoder)
tiff_layouts.teach_pillow()
# A client's bytes reach only these decoders of Pillow. Its others are rarely used and rarely fuzzed.
PLUGINS: Final = {
    "JPEG": "JPEG", "PNG": "PNG", "WebP": "WEBP", "GIF": "GIF", "BMP": "BMP", "TIFF": "TIFF", "AVIF": "AVIF",
    "JPEG 2000": "JPEG2000", "PNM": "PPM",
}  # fmt: skip
_BARE: Final = {
    "JPEG": bare_jpeg, "PNG": bare_png, "WebP": bare_webp, "GIF": bare_gif, "BMP": bare_bmp, "TIFF": bare_tiff,
    "JPEG 2000": bare_jp2,
}  # fmt: skip
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
NOT_AN_IMAGE: Final = "Data is not image."  # as the incumbent says
# Pillow hands pixels to numpy in many small copies, which fragment the heap. So a gray image is converted in bands.
_BAND_PIXELS: Final = 1 << 18


def decode(data: bytes, max_pixels: int) -> Image.Image:
    """Decode the first frame of an image file to an upright RGB image with 8 bits a channel.

    Metadata other than EXIF's orientation is ignored, so it refuses no image.

    Args:
        data: the file.
        max_pixels: the largest allowed product of width and height, checked before any pixel is decoded. It holds for
            the largest buffer that the decoder allocates: the image, the canvas of an animation, a tile.

    Raises:
        InvalidImage: the image is damaged, truncated, too large, or of an unknown format.
    """
    kind = format_of(data)
    if kind is None:
        raise InvalidImage(NOT_AN_IMAGE)
    if kind != "HEIC" and kind not in PLUGINS:
        raise InvalidImage(f"The image is of the format {kind}. Accepted are {ACCEPTED_TEXT}.")
    try:
        if kind == "HEIC":
            return _heic(data, max_pixels)
        bare = _BARE.get(kind, Bare)(data)
        _check_size(bare.buffer, max_pixels)
        try:
            image = _pixels(kind, bare.data, max_pixels)
        except OSError:
            ended = ended_jpeg(bare.data) if kind == "JPEG" else None
            if ended is None:
                raise
            image = _pixels(kind, ended, max_pixels)
        orientation = orientation_of(image.info.get("exif", b"")) if kind == "AVIF" else bare.orientation
        image = _converted(image)
        return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image
    except InvalidImage:
        raise
    except MemoryError:
        raise InvalidImage(NO_MEMORY) from None
    except Exception:
        # For damaged files, Pillow raises OSError, SyntaxError, struct.error, zlib.error and many others.
        raise InvalidImage(f"The {kind} image is damaged or incomplete.") from None


def _pixels(kind: str, data: bytes, max_pixels: int) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=(PLUGINS[kind],))
    _check_size(image.size, max_pixels)
    if isinstance(image, TiffImageFile):
        tiff_layouts.fit_palette(image)
    image.load()
    return image


def _converted(image: Image.Image) -> Image.Image:
    if isinstance(image, GifImageFile):
        return _on_background(image)
    if isinstance(image, TiffImageFile):
        gray = tiff_layouts.first_sample(image)
        return tiff_layouts.inverted(image, _rgb(image if gray is None else gray))
    return _rgb(image)


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise InvalidImage(f"The image has {width}x{height} pixels; at most {max_pixels} are allowed.")


def _heic(data: bytes, max_pixels: int) -> Image.Image:
    """Decode a HEIC. Its orientation is a property that libheif applies; that of EXIF is for information.

    The file's first image stands for a primary one that is missing. pi-heif's `open_heif` also reads the metadata, and
    crashes where they are damaged. So this calls what `open_heif` calls.
    """
    loaded = _pi_heif.load_file(data, 1, True, False, True, True, "", False)
    images = sorted((image for image in loaded if image is not None), key=lambda image: not image.primary)
    first = BaseImage(images[0])
    _check_size(first.size, max_pixels)
    return _rgb(first.to_pillow())


def _on_background(image: GifImageFile) -> Image.Image:
    """Paint a GIF's first frame on the canvas' background colour, which the frame's transparent pixels show."""
    palette, index = image.global_palette, image.info.get("background", 0)
    colour = tuple(palette.palette[3 * index : 3 * index + 3]) if palette else ()
    canvas = Image.new("RGB", image.size, colour if len(colour) == 3 else (0, 0, 0))
    extent = image.dispose_extent or (0, 0, *image.size)
    frame = image.crop(extent)
    canvas.paste(frame.convert("RGB"), extent[:2], frame.convert("RGBA").getchannel("A"))
    return canvas


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
