"""Have Pillow read the layouts of TIFF that libtiff decodes and that Pillow refuses or mistakes.

libtiff decodes every picture, so values are in the machine's byte order, in planes as in pixels, and YCbCr is RGB.
"""

from typing import Final

from PIL import ImageChops, ImagePalette, TiffImagePlugin
from PIL.Image import Image
from PIL.TiffImagePlugin import OPEN_INFO, TiffImageFile

from gateway.images.tiff import BITS_PER_SAMPLE, COLOUR_MAP, PHOTOMETRIC

_UNSIGNED, _SIGNED = (1,), (2,)
_WHITE_IS_ZERO: Final = 0
_BLACK_IS_ZERO: Final = 1
# The channel of Pillow's that has the high byte of the first sample.
_GRAY: Final = {(16, 16): "G", (8, 8, 8): "R", (16, 16, 16): "R"}
# By photometric interpretation, sample format, bits of each sample, and kinds of extra samples: Pillow's mode, and how
# its samples lie. Alpha is dropped, so it is not divided out of the colours.
_Layout = tuple[int, tuple[int, ...], tuple[int, ...], tuple[int, ...]]
_LAYOUTS: Final[dict[_Layout, tuple[str, str]]] = {
    (_WHITE_IS_ZERO, _UNSIGNED, (16,), ()): ("I;16", "I;16"),
    **{(_BLACK_IS_ZERO, _UNSIGNED, (8, 8), (extra,)): ("LA", "LA") for extra in (0, 1)},
    **{(_BLACK_IS_ZERO, _UNSIGNED, (16, 16), (extra,)): ("RGB", "RGBX") for extra in (0, 1, 2)},
    **{(_BLACK_IS_ZERO, _UNSIGNED, (8, 8, 8), extra): ("RGB", "RGB") for extra in ((), (0, 0))},
    **{(_BLACK_IS_ZERO, _UNSIGNED, (16, 16, 16), extra): ("RGB", "RGB;16L") for extra in ((), (0, 0))},
    (2, _UNSIGNED, (8,) * 4, (1,)): ("RGBA", "RGBA"),
    (2, _UNSIGNED, (16,) * 4, (1,)): ("RGBA", "RGBA;16L"),
}


def teach_pillow() -> None:
    """Extend Pillow's table. Its keys have the byte order of a file in front, and the order of bits in the middle."""
    TiffImagePlugin.READ_LIBTIFF = True
    # All machines that the gateway runs on are little-endian.
    pillows = {key[1:3] + key[4:]: layout for key, layout in OPEN_INFO.items() if key[0] == b"II" and key[3] == 1}
    layouts: dict[_Layout, tuple[str, str]] = pillows | _LAYOUTS
    # OpenCV takes signed values for unsigned ones, too. Those of 32 bits have layouts of their own.
    signed = {
        (photometric, _SIGNED, bits, extra): layout
        for (photometric, sample_format, bits, extra), layout in layouts.items()
        if sample_format == _UNSIGNED and bits[0] in (8, 16)
    }
    for (photometric, sample_format, bits, extra), layout in (layouts | signed).items():
        for order in (b"II", b"MM"):
            for fill_order in (1, 2):
                OPEN_INFO[order, photometric, sample_format, fill_order, bits, extra] = layout  # type: ignore[index]


def fit_palette(image: TiffImageFile) -> None:
    """Take a colour map whose values are all below 256 as one of 8 bits, as libtiff does. Call this before `load`."""
    colours = image.tag_v2.get(COLOUR_MAP, (256,))
    if image.mode in ("P", "PA") and max(colours) < 256:
        image.palette = ImagePalette.raw("RGB;L", bytes(colours))


def first_sample(image: TiffImageFile) -> Image | None:
    """The gray of an image that Pillow has read as a colour image, or None for any other image."""
    tags = image.tag_v2
    channel = _GRAY.get(tags.get(BITS_PER_SAMPLE, ())) if tags.get(PHOTOMETRIC) == _BLACK_IS_ZERO else None
    return image.getchannel(channel) if channel else None


def inverted(image: TiffImageFile, rgb: Image) -> Image:
    """Invert 16 bits where white is 0. Pillow inverts 8 bits and fewer."""
    white_is_zero = image.mode == "I;16" and image.tag_v2.get(PHOTOMETRIC) == _WHITE_IS_ZERO
    return ImageChops.invert(rgb) if white_is_zero else rgb
