"""Build image files by hand: what Pillow does not write."""

import struct
import zlib

from PIL import Image

from tests.pictures import encoded

Tag = tuple[int, int, int, int]
"""Of a TIFF: tag, type, number of values, value or offset."""


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(chunks: bytes, file: bytes) -> bytes:
    """A PNG with more chunks after its header."""
    return file[:33] + chunks + file[33:]


def jpeg_segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def jpeg_with(segments: bytes, file: bytes) -> bytes:
    """A JPEG with more segments at its start."""
    return file[:2] + segments + file[2:]


def webp_with(chunks: list[tuple[bytes, bytes]], image: Image.Image) -> bytes:
    """A WebP with chunks of metadata behind the pixels."""
    simple = encoded(image, "WEBP", lossless=True)
    size = (image.width - 1).to_bytes(3, "little") + (image.height - 1).to_bytes(3, "little")
    body = b"WEBP" + _riff(b"VP8X", bytes([0b0010_1100, 0, 0, 0]) + size) + simple[12:]
    body += b"".join(_riff(kind, data) for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _riff(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def tiff(tags: list[Tag], data: bytes = b"", order: str = "<") -> bytes:
    """A TIFF of one directory, with the data behind it: at `tiff_data_offset(len(tags))`."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(tags))
    return head + b"".join(struct.pack(order + "HHII", *tag) for tag in tags) + bytes(4) + data


def tiff_data_offset(count: int) -> int:
    return 8 + 2 + 12 * count + 4


def exif(orientation: int, order: str = "<", before: tuple[Tag, ...] = ()) -> bytes:
    """EXIF that states an orientation, as in a PNG. A JPEG's has `Exif` and two zeros before it."""
    value = orientation if order == "<" else orientation << 16
    return tiff([*before, (274, 3, 1, value)], order=order)
