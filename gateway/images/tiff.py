"""Read what decoding needs of a TIFF's first directory, and the orientation of EXIF, which is a TIFF too.

https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf, https://libtiff.gitlab.io/libtiff/specification/bigtiff.html
"""

import struct
from typing import Final, NamedTuple

WIDTH: Final = 256
HEIGHT: Final = 257
BITS_PER_SAMPLE: Final = 258
PHOTOMETRIC: Final = 262
ORIENTATION: Final = 274
SAMPLES_PER_PIXEL: Final = 277
ROWS_PER_STRIP: Final = 278
PLANAR_CONFIGURATION: Final = 284
COLOUR_MAP: Final = 320
TILE_WIDTH: Final = 322
TILE_HEIGHT: Final = 323
# The numbers are those of Compression, FillOrder, T4Options, T6Options, Predictor, InkSet, ExtraSamples, SampleFormat,
# JPEGTables, JPEGProc and the other tags of old JPEG, YCbCrCoefficients, YCbCrSubSampling, YCbCrPositioning,
# ReferenceBlackWhite, and LERC's parameters.
_PIXEL_TAGS: Final = frozenset(
    {WIDTH, HEIGHT, BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLES_PER_PIXEL, ROWS_PER_STRIP, PLANAR_CONFIGURATION, COLOUR_MAP}
    | {TILE_WIDTH, TILE_HEIGHT, 259, 266, 292, 293, 317, 332, 338, 339}
    | {347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532, 50674}
)
# StripOffsets, StripByteCounts, TileOffsets, TileByteCounts: one value for each strip or tile.
_PART_TAGS: Final = frozenset((273, 279, 324, 325))
# A row of a picture may be a strip. Each strip is a Python integer in Pillow.
_MAX_PARTS: Final = 2**20
# The longest is a colour map of 16 bits: 3 * 2^16 values.
_MAX_TAG_BYTES: Final = 3 * 2**16 * 2
_TYPE_BYTES: Final = {
    kind: size
    for size, kinds in {1: (1, 2, 6, 7), 2: (3, 8), 4: (4, 9, 11, 13), 8: (5, 10, 12, 16, 17, 18)}.items()
    for kind in kinds
}
_LONG: Final = 4
_EIGHT_BYTE_INTEGERS: Final = frozenset((16, 17, 18))  # of BigTIFF alone
_TIFF: Final = 42
_BIG_TIFF: Final = 43
_INTEGERS: Final = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q"}


class Entry(NamedTuple):
    """A tag: its type, the number of its values, and where the first of them is in the file."""

    kind: int
    values: int
    offset: int


class Directory(NamedTuple):
    """The first directory of a file. Of a tag that is there twice, the first counts, as in libtiff."""

    data: bytes
    order: str
    entries: dict[int, Entry]

    def integer(self, tag: int, default: int) -> int:
        """The first value of a tag of integers. The default stands for other types, and for values below 0."""
        entry = self.entries.get(tag)
        code = _INTEGERS.get(entry.kind) if entry else None
        if entry is None or code is None or not entry.values:
            return default
        value = int(struct.unpack_from(self.order + code, self.data, entry.offset)[0])
        return value if value >= 0 else default

    @property
    def orientation(self) -> int:
        """The orientation that the directory states, 1 to 8, as in EXIF. 1 if it states none."""
        stated = self.integer(ORIENTATION, 1)
        return stated if 1 <= stated <= 8 else 1


def first_directory(data: bytes) -> Directory:
    """Parse the first directory. Entries of unknown types, and those whose values lie outside the file, are left out.

    Raises:
        struct.error, ValueError: there is no directory.
    """
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise ValueError("not a TIFF")
    big = struct.unpack_from(order + "H", data, 2)[0] == _BIG_TIFF
    start = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
    count = struct.unpack_from(order + ("Q" if big else "H"), data, start)[0]
    layout = struct.Struct(order + ("HHQ8s" if big else "HHI4s"))
    start += 8 if big else 2
    entries: dict[int, Entry] = {}
    # A directory that the file's end cuts is read as far as it goes.
    for at in range(start, min(start + count * layout.size, len(data) - layout.size + 1), layout.size):
        tag, kind, values, field = layout.unpack_from(data, at)
        size = _TYPE_BYTES.get(kind, 0) * values
        offset = at + layout.size - len(field)
        if size > len(field):
            offset = int.from_bytes(field, "little" if order == "<" else "big")
        if size and offset + size <= len(data):
            entries.setdefault(tag, Entry(kind, values, offset))
    return Directory(data, order, entries)


def orientation_of(exif: bytes) -> int:
    """The orientation that EXIF states, 1 to 8. Returns 1 if it states none, or is no EXIF."""
    try:
        return first_directory(exif.removeprefix(b"Exif\0\0")).orientation
    except (struct.error, ValueError):
        return 1


def largest_buffer(directory: Directory) -> tuple[int, int]:
    """The width and the height that libtiff decodes at once: the image, or a tile, if that is larger."""
    width, height = directory.integer(WIDTH, 0), directory.integer(HEIGHT, 0)
    tile = directory.integer(TILE_WIDTH, 0), directory.integer(TILE_HEIGHT, 0)
    return tile if tile[0] * tile[1] > width * height else (width, height)


def with_pixel_tags_only(directory: Directory) -> bytes:
    """The file with a new directory, which has only the tags that the pixels depend on. A BigTIFF becomes a TIFF.

    Other tags can be damaged, and hundreds of them can point at the same megabyte, which Pillow would copy each time.
    Pillow does not read a big-endian BigTIFF.

    Raises:
        struct.error, ValueError: the file has more strips or tiles than any picture, or an offset outside of itself.
    """
    parts, data, order = _parts(directory), directory.data, directory.order
    kept: list[bytes] = []
    moved = bytearray(len(data) % 2)
    for tag, entry in sorted(directory.entries.items()):
        kind, count, offset = entry.kind, min(entry.values, parts) if tag in _PART_TAGS else entry.values, entry.offset
        size = _TYPE_BYTES[kind] * count
        if tag not in _PART_TAGS and (tag not in _PIXEL_TAGS or size > _MAX_TAG_BYTES):
            continue
        if kind in _EIGHT_BYTE_INTEGERS:
            values = struct.pack(f"{order}{count}I", *struct.unpack_from(f"{order}{count}Q", data, offset))
            kind, size, offset = _LONG, len(values), len(data) + len(moved)
            moved += values
        else:
            values = data[offset : offset + 4]
        field = values[:size].ljust(4, b"\0") if size <= 4 else struct.pack(order + "I", offset)
        kept.append(struct.pack(order + "HHI", tag, kind, count) + field)
    head = data[:2] + struct.pack(order + "HI", _TIFF, len(data) + len(moved))
    number = struct.pack(order + "H", len(kept))
    return b"".join((head, memoryview(data)[len(head) :], moved, number, *kept, bytes(4)))


def _parts(directory: Directory) -> int:
    """The number of strips or tiles that the image's size asks for."""
    width, height = directory.integer(WIDTH, 0), directory.integer(HEIGHT, 0)
    rows = directory.integer(TILE_HEIGHT, 0) or directory.integer(ROWS_PER_STRIP, 0) or height
    columns = directory.integer(TILE_WIDTH, 0) or width
    parts = -(-height // max(rows, 1)) * -(-width // max(columns, 1))
    if directory.integer(PLANAR_CONFIGURATION, 1) == 2:
        parts *= directory.integer(SAMPLES_PER_PIXEL, 1)
    if not 0 < parts <= _MAX_PARTS:
        raise ValueError("too many strips or tiles")
    return parts
