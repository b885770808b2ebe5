"""Take an image file's pixels out of its metadata, so that metadata that is damaged, huge or odd cannot refuse them.

Pillow parses metadata before the pixels, and raises where OpenCV and browsers look away. Of the metadata, only EXIF's
orientation matters, and is read here: from EXIF alone, whatever XMP says.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

import regex

from gateway.images.bmp import with_plain_pixels
from gateway.images.tiff import first_directory, largest_buffer, orientation_of, with_pixel_tags_only


class Bare(NamedTuple):
    """An image file without metadata."""

    data: bytes
    orientation: int = 1
    """As in EXIF: 1 is upright, 2 to 8 are mirrored or turned."""
    buffer: tuple[int, int] = (0, 0)
    """The width and the height of the largest buffer that decoding allocates, if it can be larger than the image."""


_EXIF: Final = b"Exif\0\0"
_START_OF_SCAN: Final = 0xDA
# Markers without a length: TEM, RST0 to RST7, SOI.
_STANDALONE: Final = frozenset((0x01, *range(0xD0, 0xD9)))
_END_OF_IMAGE: Final = 0xD9


def bare_jpeg(data: bytes) -> Bare:
    """Drop the application segments and comments before the first scan, other than those that tell the colour space.

    Raises:
        ValueError: there is no scan.
    """
    kept: list[bytes | memoryview] = [b"\xff\xd8"]
    at, orientation, has_exif = 2, 1, False
    while True:
        at = data.find(b"\xff", at)  # libjpeg skips bytes that are no marker
        if at < 0 or at + 4 > len(data):
            raise ValueError("no scan")
        marker = data[at + 1]
        if marker in (0, 0xFF) or marker in _STANDALONE:
            at += 1 if marker == 0xFF else 2
            continue
        if marker == _START_OF_SCAN:
            kept.append(memoryview(data)[at:])
            return Bare(b"".join(kept), orientation)
        if marker == _END_OF_IMAGE:
            raise ValueError("no scan")
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if end < at + 4 or end > len(data):
            raise ValueError("a segment is cut")
        body = data[at + 4 : end]
        if marker == 0xE1 and body.startswith(_EXIF) and not has_exif:
            orientation, has_exif = orientation_of(body), True
        if not (0xE0 <= marker <= 0xEF or marker == 0xFE) or _tells_the_colour_space(marker, body):
            kept.append(memoryview(data)[at:end])
        at = end


def _tells_the_colour_space(marker: int, body: bytes) -> bool:
    """Whether libjpeg's choice of a colour space depends on the segment. Shorter ones it ignores."""
    return (marker == 0xE0 and body.startswith(b"JFIF\0") and len(body) >= 14) or (
        marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12
    )


# Markers that follow neither a scan nor the segments between two scans: an image ends before them.
_AFTER_THE_IMAGE: Final = regex.compile(rb"\xff[\x01-\xc3\xc5-\xcf\xd8\xd9\xde\xdf\xf0-\xfd]")


def ended_jpeg(data: bytes) -> bytes | None:
    """End a JPEG where its scans end. Returns None if nothing follows them.

    libjpeg has an error for what follows an image that lacks its last marker, such as another image, when all pixels
    are there.
    """
    end = _AFTER_THE_IMAGE.search(data, data.find(b"\xff\xda"))
    return data[: end.start()] + b"\xff\xd9" if end else None


_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_PNG_PIXELS: Final = frozenset((b"IHDR", b"PLTE", b"IDAT"))


def bare_png(data: bytes) -> Bare:
    """Keep the header, the palette and the pixels: of an animation, those of its first frame.

    An animation may be preceded by an image for viewers that show no animation. Browsers and the incumbent show the
    frame, if it covers the canvas.

    Raises:
        ValueError: the file is truncated.
    """
    view = memoryview(data)
    orientation, animated, frames = 1, False, 0
    still: list[bytes | memoryview] = [_PNG_SIGNATURE]
    before_pixels = 1
    frame: list[memoryview] = []
    for kind, at, end in _png_chunks(data):
        if kind in _PNG_PIXELS:
            still.append(view[at - 8 : end + 4])
            before_pixels += kind != b"IDAT"
        elif kind == b"acTL":
            animated = len(still) == before_pixels and int.from_bytes(data[at : at + 4], "big") > 1
        elif kind == b"fcTL":
            frames += 1
            if frames > 1 and len(still) > before_pixels:
                break  # the file may be cut in a later frame
            if frames == 1 and (len(still) == before_pixels or data[at + 4 : at + 20] != _canvas(data)):
                animated = False  # the still image is the first frame, or the first frame is a part
        elif kind == b"fdAT" and frames == 1:
            frame.append(view[at + 4 : end])
        elif kind == b"eXIf" and orientation == 1 and _crc(data, at, end):
            orientation = orientation_of(data[at:end])
    if animated and frame:
        still[before_pixels:] = [_chunk(b"IDAT", b"".join(frame))]
    return Bare(b"".join((*still, _chunk(b"IEND", b""))), orientation)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind, the start and the end of the data of each chunk up to the last."""
    at = len(_PNG_SIGNATURE)
    while True:
        kind = data[at + 4 : at + 8]
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if len(kind) < 4 or end + 4 > len(data):
            raise ValueError("truncated")
        if kind == b"IEND":
            return
        yield kind, at + 8, end
        at = end + 4


def _crc(data: bytes, at: int, end: int) -> bool:
    return zlib.crc32(memoryview(data)[at - 4 : end]) == int.from_bytes(data[end : end + 4], "big")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))


def _canvas(data: bytes) -> bytes:
    """The width and the height of IHDR, and the offset 0, 0, as fcTL has them."""
    return data[16:24] + bytes(8)


_GIF_GRAPHIC_CONTROL: Final = 0xF9


def bare_gif(data: bytes) -> Bare:
    """Drop the comments and application blocks before the first frame, and find the canvas, which Pillow allocates on
    opening.

    Raises:
        IndexError, ValueError: there is no frame.
    """
    at = 13 + _palette_bytes(data[10])
    kept: list[bytes | memoryview] = [data[:at]]
    while data[at] != 0x2C:
        if data[at] != 0x21:
            raise ValueError("no frame")
        start, at = at, at + 2
        while length := data[at]:
            at += 1 + length
        at += 1
        if data[start + 1] == _GIF_GRAPHIC_CONTROL:
            kept.append(data[start:at])
    width, height = struct.unpack_from("<HH", data, 6)
    left, top, across, down = struct.unpack_from("<HHHH", data, at + 1)
    kept.append(memoryview(data)[at:])
    return Bare(b"".join(kept), 1, (max(width, left + across), max(height, top + down)))


def _palette_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


_WEBP_ANIMATED: Final = 0b10


def bare_webp(data: bytes) -> Bare:
    """Keep the bit stream of the pixels or the first frame of an animation, and find the canvas, which Pillow allocates
    on opening.

    Raises:
        IndexError, ValueError: there are no pixels.
    """
    orientation, canvas, animated = 1, (0, 0), False
    kept: dict[bytes, bytes] = {}
    at = 12
    while at + 8 <= len(data):
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        body, end = at + 8, at + 8 + length + length % 2
        if kind == b"EXIF" and orientation == 1:
            orientation = orientation_of(data[body : body + length])
        elif kind == b"VP8X" and not kept:
            animated = bool(data[body] & _WEBP_ANIMATED)
            canvas = _uint24(data, body + 4) + 1, _uint24(data, body + 7) + 1
            kept[kind] = data[at:body] + bytes([animated * _WEBP_ANIMATED]) + data[body + 1 : end]
        elif kind in ((b"ANIM", b"ANMF") if animated else (b"VP8 ", b"VP8L")):
            kept.setdefault(kind, data[at:end])
        at = end
    if not animated:
        kept = {kind: chunk for kind, chunk in kept.items() if kind != b"VP8X"}  # alpha is dropped in any case
        stream = next(iter(kept.values()), b"")
        canvas = _lossless_size(stream) if b"VP8L" in kept else _lossy_size(stream)
    body_of_file = b"".join((b"WEBP", *list(kept.values())[: 3 if animated else 1]))
    return Bare(b"RIFF" + struct.pack("<I", len(body_of_file)) + body_of_file, orientation, canvas)


def _uint24(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 3], "little")


def _lossy_size(chunk: bytes) -> tuple[int, int]:
    """RFC 6386, 9.1: three bytes of tag, three of a start code, then 14 bits each and 2 of a scale."""
    width, height = struct.unpack_from("<HH", chunk, 14)
    return width & 0x3FFF, height & 0x3FFF


def _lossless_size(chunk: bytes) -> tuple[int, int]:
    """RFC 9649, 3.4: a signature, then 14 bits each, less one."""
    bits = struct.unpack_from("<I", chunk, 9)[0]
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


_JP2_SIGNATURE: Final = b"\0\0\0\x0cjP  \r\n\x87\n"
# The size, the bits of each component, the palette and its components, and which component is alpha.
_JP2_PIXELS: Final = frozenset((b"ihdr", b"bpcc", b"pclr", b"cmap", b"cdef"))


def bare_jp2(data: bytes) -> Bare:
    """Keep the codestream, and of the header's boxes those that the pixels depend on: one for the colour space.

    Raises:
        ValueError: there is no codestream.
    """
    if not data.startswith(_JP2_SIGNATURE):
        return Bare(data)  # a codestream without a container
    kept: list[bytes | memoryview] = []
    for kind, start, body, end in _boxes(data, 0, len(data)):
        if kind == b"jp2h":
            header: dict[bytes, bytes] = {}
            for part, part_start, _, part_end in _boxes(data, body, end):
                if part in _JP2_PIXELS or part == b"colr":
                    header.setdefault(part, data[part_start:part_end])
            parts = b"".join(header.values())
            kept.append(struct.pack(">I", 8 + len(parts)) + kind + parts)
        elif kind in (b"jP  ", b"ftyp", b"jp2c"):
            kept.append(memoryview(data)[start:end])
        if kind == b"jp2c":
            return Bare(b"".join(kept))
    raise ValueError("no codestream")


def _boxes(data: bytes, at: int, stop: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Yield the kind, the start, the start of the body, and the end of each box of ISO 14496-12 or 15444-1."""
    while at + 8 <= stop:
        length, body = int.from_bytes(data[at : at + 4], "big"), at + 8
        if length == 1:
            length, body = int.from_bytes(data[body : body + 8], "big"), at + 16
        end = stop if length == 0 else at + length
        if not body <= end <= stop:
            raise ValueError("a box is cut")
        yield data[at + 4 : at + 8], at, body, end
        at = end


def bare_bmp(data: bytes) -> Bare:
    """Keep the file. A BMP has no metadata, but may have pixels that Pillow does not read.

    Raises:
        struct.error, ValueError: the file ends early.
    """
    return Bare(with_plain_pixels(data))


def bare_tiff(data: bytes) -> Bare:
    """Keep the first directory's tags that the pixels depend on.

    Raises:
        struct.error, ValueError: there is no directory, or it has too many strips.
    """
    directory = first_directory(data)
    return Bare(with_pixel_tags_only(directory), directory.orientation, largest_buffer(directory))
