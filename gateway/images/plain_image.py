"""Tell files that are plainly images from other data, where nothing declares what they are."""

from typing import Final

from gateway.images.formats import ACCEPTED, format_of

# Their signatures are two letters, with which a text may begin, too. These files have zeros near their start.
_SHORT_SIGNATURES: Final = frozenset(("BMP", "PNM"))
START_BYTES: Final = 512


def is_image_file(data: bytes | bytearray) -> bool:
    """Whether a file, or its first `START_BYTES`, is of an image format, and no text by accident."""
    start = bytes(data[:START_BYTES])
    kind = format_of(start)
    return kind in ACCEPTED and (kind not in _SHORT_SIGNATURES or b"\0" in start)
