"""Metadata refuses no picture, and changes none but by EXIF's orientation."""

import struct
import zlib
from typing import Final

import numpy as np
import pytest
from PIL import Image

from gateway.errors import InvalidImage
from gateway.images.bare import bare_tiff
from gateway.images.decode import decode
from tests.gateway.images.containers import (
    exif,
    jpeg_segment,
    jpeg_with,
    png_chunk,
    png_with,
    tiff,
    tiff_data_offset,
    webp_with,
)
from tests.pictures import encoded

LIMIT: Final = 4_000_000
PICTURE: Final = Image.fromarray(np.random.default_rng(3).integers(0, 256, (12, 20, 3), np.uint8))
PNG: Final = encoded(PICTURE)
JPEG: Final = encoded(PICTURE, "JPEG")
GRAY_JPEG: Final = encoded(PICTURE.convert("L"), "JPEG")
CMYK_JPEG: Final = encoded(PICTURE.convert("CMYK"), "JPEG")
EXIF_6: Final = exif(6)
# An offset that leaves the file, a width below zero, an endless string, a directory of 65,535 entries.
BROKEN_EXIF: Final = {
    "no EXIF": b"not EXIF",
    "nothing": b"",
    "half a header": b"II*",
    "an offset outside": b"II*\0\xff\xff\xff\xff",
    "entries outside": b"MM\0*\0\0\0\x08\xff\xff",
    "a width below zero": tiff([(256, 9, 1, 0xFFFF_FFFF)]),
    "an endless string": tiff([(270, 2, 0xFFFF_FFFF, 8)]),
    "an unknown type": tiff([(274, 99, 1, 6)]),
    "an orientation of 9": exif(9),
    "an orientation of 0": exif(0),
    "an orientation in fractions": tiff([(274, 5, 1, 8)], bytes(8)),
}
BROKEN_PROFILE: Final = {"no profile": b"", "zeros": bytes(1_100_000), "text": b"sRGB"}

PNGS: Final = {
    "an ICC profile of 1.1 MB": png_chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(1_100_000))),
    "an ICC profile that is not compressed": png_chunk(b"iCCP", b"p\0\0text"),
    "an ICC profile of an unknown compression": png_chunk(b"iCCP", b"p\0\x07text"),
    "a compressed text of 1.1 MB": png_chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b" " * 1_100_000)),
    "compressed texts of 80 MB": png_chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b" " * 1_000_000)) * 80,
    "an international text of 1.1 MB": png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b" " * 1_100_000),
    "an international text that is cut": png_chunk(b"iTXt", b"k"),
    "a text in no encoding": png_chunk(b"iTXt", b"k\0\0\0\0\0\xff\xfe\xfd"),
    "a text with a wrong checksum": png_chunk(b"tEXt", b"k\0v")[:-4] + bytes(4),
    "one byte of pHYs": png_chunk(b"pHYs", b"\0"),
    "no byte of gAMA": png_chunk(b"gAMA", b""),
    "one byte of cHRM": png_chunk(b"cHRM", b"\0"),
    "no byte of sRGB": png_chunk(b"sRGB", b""),
    "an odd tRNS": png_chunk(b"tRNS", b"\0"),
    "an odd tIME": png_chunk(b"tIME", b"\0"),
    "one byte of acTL": png_chunk(b"acTL", b"\0"),
    "an animation without frames": png_chunk(b"acTL", struct.pack(">II", 0, 0)),
    "fcTL without acTL": png_chunk(b"fcTL", bytes(26)),
    "a chunk of its own": png_chunk(b"prVt", b"x"),
    "eXIf with a wrong checksum": png_chunk(b"eXIf", EXIF_6)[:-4] + bytes(4),
    "an orientation in XMP": png_chunk(b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="6"/>'),
    "an orientation in a raw profile": png_chunk(
        b"tEXt", b"Raw profile type exif\0\nexif\n26\n" + EXIF_6.hex().encode()
    ),
} | {f"eXIf, {name}": png_chunk(b"eXIf", data) for name, data in BROKEN_EXIF.items()}

JPEGS: Final = {
    "APP2 that says ICC_PROFILE": jpeg_segment(0xE2, b"ICC_PROFILE\0"),
    "a part of a profile that is missing": jpeg_segment(0xE2, b"ICC_PROFILE\0\x02\x09text"),
    "MPF without pictures": jpeg_segment(0xE2, b"MPF\0"),
    "MPF with nonsense": jpeg_segment(0xE2, b"MPF\0II*\0\x08\0\0\0\xff\xff" + bytes(60)),
    "JFIF that is cut": jpeg_segment(0xE0, b"JFIF\0"),
    "JFXX": jpeg_segment(0xE0, b"JFXX\0\x10"),
    "Adobe that is cut": jpeg_segment(0xEE, b"Adobe\0"),
    "Photoshop's resources that are cut": jpeg_segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04"),
    "Photoshop's resources of nonsense": jpeg_segment(0xED, b"Photoshop 3.0\x008BIM" + b"\xff" * 40),
    "EXIF in 65,533 bytes": jpeg_segment(0xE1, b"Exif\0\0" + b"\xff" * 65_527),
    "an empty comment": jpeg_segment(0xFE, b""),
    "a comment in no encoding": jpeg_segment(0xFE, b"\xff\xfe\x80"),
    "200 segments of 64 kB": jpeg_segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(65_000)) * 200,
    "an orientation in XMP": jpeg_segment(0xE1, b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="6"/>'),
    "filling bytes": b"\xff\xff\xff" + jpeg_segment(0xFE, b"x"),
    "bytes that are no marker": jpeg_segment(0xFE, b"x") + b"text",
} | {f"EXIF, {name}": jpeg_segment(0xE1, b"Exif\0\0" + data) for name, data in BROKEN_EXIF.items()}

WEBPS: Final = {
    "XMP that turns": [(b"XMP ", b'<x tiff:Orientation="6"/>')],
    "a chunk of its own": [(b"prVt", b"x")],
    "a frame in a still image": [(b"ANMF", b"")],
} | {f"EXIF, {name}": [(b"EXIF", data)] for name, data in BROKEN_EXIF.items()} | {
    f"ICCP, {name}": [(b"ICCP", data)] for name, data in BROKEN_PROFILE.items()
}  # fmt: skip


def pixels(data: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.asarray(decode(data, LIMIT))


@pytest.mark.parametrize("name", PNGS)
def test_metadata_of_png(name: str) -> None:
    np.testing.assert_array_equal(pixels(png_with(PNGS[name], PNG)), np.asarray(PICTURE))


@pytest.mark.parametrize("name", JPEGS)
@pytest.mark.parametrize("file", [JPEG, GRAY_JPEG, CMYK_JPEG], ids=["RGB", "gray", "CMYK"])
def test_metadata_of_jpeg(name: str, file: bytes) -> None:
    np.testing.assert_array_equal(pixels(jpeg_with(JPEGS[name], file)), pixels(file))


@pytest.mark.parametrize("name", WEBPS)
def test_metadata_of_webp(name: str) -> None:
    np.testing.assert_array_equal(pixels(webp_with(WEBPS[name], PICTURE)), np.asarray(PICTURE))


@pytest.mark.parametrize("data", [b"", b"x" * 255, b"\xff\xfe\x80"])
@pytest.mark.parametrize("label", [0xFE, 0xFF, 0x01, 0x42])
def test_metadata_of_gif(label: int, data: bytes) -> None:
    file = encoded(PICTURE, "GIF")
    at = 13 + (3 << (file[10] & 7) + 1)
    block = bytes([0x21, label]) + (bytes([len(data)]) + data if data else b"") + b"\0"
    np.testing.assert_array_equal(pixels(file[:at] + block + file[at:]), pixels(file))


def jp2_box(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", 8 + len(data)) + kind + data


JP2: Final = encoded(PICTURE, "JPEG2000")
JP2_HEADERS: Final = {
    "an empty resolution": jp2_box(b"res ", b""),
    "a short resolution": jp2_box(b"res ", b"ab"),
    "a resolution whose part is short": jp2_box(b"res ", jp2_box(b"resc", b"a")),
    "a resolution of zero": jp2_box(b"res ", jp2_box(b"resc", bytes(10))),
    "a second colour space": jp2_box(b"colr", b"\2\0\0ICC"),
    "a box of an unknown kind": jp2_box(b"abcd", b"x" * 1_000),
}
JP2_BOXES: Final = {
    "XML": jp2_box(b"xml ", b"<x>" * 10_000),
    "an empty UUID": jp2_box(b"uuid", b""),
    "a long length": struct.pack(">I4sQ", 1, b"uuid", 20) + b"abcd",
}


@pytest.mark.parametrize("name", JP2_HEADERS)
def test_metadata_in_the_header_of_jpeg_2000(name: str) -> None:
    at = JP2.index(b"jp2h") - 4
    length = int.from_bytes(JP2[at : at + 4], "big")
    header = jp2_box(b"jp2h", JP2[at + 8 : at + length] + JP2_HEADERS[name])
    np.testing.assert_array_equal(pixels(JP2[:at] + header + JP2[at + length :]), pixels(JP2))


@pytest.mark.parametrize("name", JP2_BOXES)
def test_metadata_of_jpeg_2000(name: str) -> None:
    at = JP2.index(b"jp2c") - 4
    np.testing.assert_array_equal(pixels(JP2[:at] + JP2_BOXES[name] + JP2[at:]), pixels(JP2))
    np.testing.assert_array_equal(pixels(JP2 + b"\0\0\0\4abcd"), pixels(JP2))


def test_a_codestream_of_jpeg_2000() -> None:
    np.testing.assert_array_equal(pixels(JP2[JP2.index(b"jp2c") + 4 :]), pixels(JP2))
    endless = JP2.replace(JP2[JP2.index(b"jp2c") - 4 :][:8], b"\0\0\0\0jp2c")
    np.testing.assert_array_equal(pixels(endless), pixels(JP2))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "JPEG2000"])
def test_what_follows_a_picture_is_ignored(kind: str) -> None:
    file = encoded(PICTURE, kind)
    np.testing.assert_array_equal(pixels(file + b"PK\x03\x04" + bytes(1_000)), pixels(file))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "before", [(), ((256, 9, 1, 0xFFFF_FFFF),), ((270, 2, 1 << 31, 8),)], ids=["", "width", "string"]
)
def test_orientation_is_read_from_exif_that_is_damaged_elsewhere(
    order: str, before: tuple[tuple[int, int, int, int], ...]
) -> None:
    data = exif(6, order, before)
    turned = np.rot90(np.asarray(PICTURE), -1)
    np.testing.assert_array_equal(pixels(png_with(png_chunk(b"eXIf", data), PNG)), turned)
    np.testing.assert_array_equal(pixels(webp_with([(b"EXIF", data)], PICTURE)), turned)
    np.testing.assert_array_equal(
        pixels(jpeg_with(jpeg_segment(0xE1, b"Exif\0\0" + data), JPEG)), np.rot90(pixels(JPEG), -1)
    )


@pytest.mark.parametrize("kind", [1, 3, 4, 8, 9])
def test_orientation_may_have_any_type_of_integer(kind: int) -> None:
    data = tiff([(274, kind, 1, 3)])
    np.testing.assert_array_equal(pixels(png_with(png_chunk(b"eXIf", data), PNG)), np.asarray(PICTURE)[::-1, ::-1])


@pytest.mark.parametrize("first", [1, 3])
def test_the_first_exif_counts(first: int) -> None:
    segments = jpeg_segment(0xE1, b"Exif\0\0" + exif(first)) + jpeg_segment(0xE1, b"Exif\0\0" + exif(6))
    expected = pixels(JPEG) if first == 1 else pixels(JPEG)[::-1, ::-1]
    np.testing.assert_array_equal(pixels(jpeg_with(segments, JPEG)), expected)


@pytest.mark.parametrize(
    "rest",
    [JPEG, b"\xff\xd8", b"\xff\xf7\0\1", JPEG[JPEG.index(b"\xff\xc0") :]],
    ids=["another image", "its first marker", "no marker", "another frame"],
)
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_last_marker_ends_where_something_else_begins(rest: bytes, progressive: bool) -> None:
    file = encoded(PICTURE, "JPEG", progressive=progressive)
    np.testing.assert_array_equal(pixels(file[:-2] + rest), pixels(file))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_truncated_file_is_refused(kind: str) -> None:
    file = encoded(PICTURE, kind)
    for length in range(len(file)):
        with pytest.raises(InvalidImage):
            decode(file[:length], LIMIT)


def apng(first_frame_is_still: bool, region: tuple[int, int, int, int], frames: int = 2) -> bytes:
    """The still image is red, the frames are blue and green."""
    red, *others = (encoded(Image.new("RGB", (8, 6), colour)) for colour in ("red", "blue", "green"))

    def data(file: bytes) -> bytes:
        at = file.index(b"IDAT")
        return file[at + 4 : at + 4 + int.from_bytes(file[at - 4 : at], "big")]

    control = struct.pack(">IIIIHHBB", *region, 1, 10, 0, 0)
    chunks = red[:33] + png_chunk(b"acTL", struct.pack(">II", frames, 0))
    if first_frame_is_still:
        chunks += png_chunk(b"fcTL", struct.pack(">I", 0) + control)
    chunks += png_chunk(b"IDAT", data(red))
    for number, file in enumerate(others):
        chunks += png_chunk(b"fcTL", struct.pack(">I", 2 * number + 1) + control)
        pieces = data(file)[:5], data(file)[5:]
        chunks += b"".join(png_chunk(b"fdAT", struct.pack(">I", 2 * number + 2) + piece) for piece in pieces)
    return chunks + png_chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "colour"),
    [
        (apng(True, (8, 6, 0, 0)), (255, 0, 0)),
        (apng(False, (8, 6, 0, 0)), (0, 0, 255)),
        (apng(False, (4, 6, 0, 0)), (255, 0, 0)),
        (apng(False, (8, 6, 0, 0), frames=1), (255, 0, 0)),
    ],
    ids=["the still image", "the frame behind the still image", "a frame that is a part", "an animation of one frame"],
)
def test_first_frame_of_an_animated_png(data: bytes, colour: tuple[int, int, int]) -> None:
    assert decode(data, LIMIT).getcolors() == [(48, colour)]


@pytest.mark.parametrize("first_frame_is_still", [True, False])
def test_a_later_frame_of_a_png_may_be_cut(first_frame_is_still: bool) -> None:
    data = apng(first_frame_is_still, (8, 6, 0, 0))
    colour = (255, 0, 0) if first_frame_is_still else (0, 0, 255)
    assert decode(data[: data.rindex(b"fdAT") + 2], LIMIT).getcolors() == [(48, colour)]
    with pytest.raises(InvalidImage):
        decode(data[: data.index(b"fdAT") + 2 if not first_frame_is_still else data.index(b"IDAT") + 2], LIMIT)


def test_first_frame_of_an_animated_webp() -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "lime", "blue")]
    data = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert b"ANMF" in data
    assert decode(data, LIMIT).getcolors() == [(48, (255, 0, 0))]


def gif(screen: tuple[int, int], frame: tuple[int, int, int, int], transparent: int | None = None) -> bytes:
    """A GIF of one frame, whose pixels have colour 1 of black, red, lime and blue. Lime is the background."""
    left, top, width, height = frame
    picture = Image.new("P", (width, height), 1)
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    pixels = encoded(picture, "GIF", optimize=False)
    start = 13 + (3 << (pixels[10] & 7) + 1)
    descriptor = pixels.index(b",", start)
    palette = bytes([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    control = b"" if transparent is None else b"\x21\xf9\x04\x01\0\0" + bytes([transparent]) + b"\0"
    local = pixels[descriptor + 9]
    body = pixels[descriptor + 10 + (3 << (local & 7) + 1 if local & 0x80 else 0) :]
    head = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x81, 2, 0) + palette
    return head + control + b"," + struct.pack("<HHHHB", left, top, width, height, 0) + body


@pytest.mark.parametrize(
    ("data", "colours"),
    [
        (gif((4, 4), (0, 0, 4, 4)), {(255, 0, 0): 16}),
        (gif((4, 4), (1, 1, 2, 2)), {(255, 0, 0): 4, (0, 255, 0): 12}),
        (gif((4, 4), (0, 0, 4, 4), transparent=1), {(0, 255, 0): 16}),
        (gif((4, 4), (0, 0, 4, 4), transparent=0), {(255, 0, 0): 16}),
    ],
    ids=["whole", "a frame that is a part", "transparent", "another colour is transparent"],
)
def test_a_gif_shows_its_background(data: bytes, colours: dict[tuple[int, int, int], int]) -> None:
    found = decode(data, LIMIT).getcolors()
    assert found is not None
    assert {colour: count for count, colour in found} == colours


@pytest.mark.parametrize(
    "data",
    [
        gif((65_535, 65_535), (0, 0, 4, 4)),
        gif((4, 4), (60_000, 60_000, 4, 4)),
        encoded(PICTURE, "WEBP")[:26] + struct.pack("<HH", 0x3FFF, 0x3FFF) + encoded(PICTURE, "WEBP")[30:],
        encoded(PICTURE, "WEBP", lossless=True)[:21]
        + b"\xff\xff\xff\x0f"
        + encoded(PICTURE, "WEBP", lossless=True)[25:],
        jpeg_with(jpeg_segment(0xE1, b"Exif\0\0"), encoded(Image.new("L", (2_100, 2_000)), "JPEG")),
        b"P5\n65535 65535\n255\n",
    ],
    ids=["the canvas of a GIF", "a frame outside a GIF's canvas", "WebP", "lossless WebP", "JPEG", "PNM"],
)
def test_pixels_are_counted_before_they_are_allocated(data: bytes) -> None:
    with pytest.raises(InvalidImage, match="pixels; at most 4000000"):
        decode(data, LIMIT)


def test_the_canvas_of_an_animated_webp_is_counted() -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "lime")]
    data = bytearray(encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]))
    data[24:30] = b"\xff" * 6
    with pytest.raises(InvalidImage, match="16777216x16777216 pixels"):
        decode(bytes(data), LIMIT)


def tiff_of(tags: list[tuple[int, int, int, int]], order: str = "<", strip: bytes = bytes(range(16))) -> bytes:
    """A gray TIFF of 4 x 4 pixels in one strip, with more tags."""

    def short(value: int) -> int:
        return value if order == "<" else value << 16

    own = [(256, 4, 1, 4), (257, 4, 1, 4), (258, 3, 1, short(8)), (259, 3, 1, short(1)), (262, 3, 1, short(1))]
    own += [(273, 4, 1, tiff_data_offset(len(tags) + 9)), (277, 3, 1, short(1)), (278, 4, 1, 4), (279, 4, 1, 16)]
    return tiff(sorted(own + tags), strip, order)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "tags",
    [
        [],
        [(270, 2, 1 << 31, 8)],
        [(282, 5, 1, 0xFFFF_FFF0)],
        [(700, 1, 20, 8)],
        [(34665, 4, 1, 0xFFFF_FFFF)],
        [(34675, 7, 1 << 20, 8)],
        [(330, 4, 1, 8)],
        [(37724, 99, 5, 8)],
        [(338, 3, 1 << 30, 8)],
    ],
    ids=["none", "string", "resolution", "XMP", "EXIF", "profile", "directory", "type", "extra samples"],
)
def test_tags_of_tiff(tags: list[tuple[int, int, int, int]], order: str) -> None:
    expected = np.arange(16).reshape(4, 4)
    np.testing.assert_array_equal(pixels(tiff_of(tags, order))[..., 0], expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_tiff(orientation: int) -> None:
    gray = np.arange(16, dtype=np.uint8).reshape(4, 4)
    exif_tags = Image.Exif()
    exif_tags[274] = orientation
    expected = pixels(encoded(Image.fromarray(gray), exif=exif_tags))
    np.testing.assert_array_equal(pixels(tiff_of([(274, 3, 1, orientation)])), expected)


def test_an_orientation_in_xmp_does_not_turn_a_tiff() -> None:
    xmp = b'<x tiff:Orientation="6"/>'
    data = tiff_of([(700, 1, len(xmp), tiff_data_offset(10) + 16)], strip=bytes(range(16)) + xmp)
    np.testing.assert_array_equal(pixels(data)[..., 0], np.arange(16).reshape(4, 4))


def test_hundreds_of_tags_on_one_megabyte_are_not_copied() -> None:
    size = 1 << 20
    tags = [(0xC000 + number, 7, size, tiff_data_offset(409)) for number in range(400)]
    data = tiff_of(tags, strip=bytes(range(16)) + bytes(size))
    assert len(bare_tiff(data).data) < len(data) + 200
    np.testing.assert_array_equal(pixels(data)[..., 0], np.arange(16).reshape(4, 4))


@pytest.mark.parametrize("compression", [1, 8])
def test_a_tile_that_is_larger_than_the_image_is_counted(compression: int) -> None:
    own = [(256, 4, 1, 16), (257, 4, 1, 16), (258, 3, 1, 8), (259, 3, 1, compression), (262, 3, 1, 1), (277, 3, 1, 1)]
    tiles = [(322, 4, 1, 16_384), (323, 4, 1, 16_384), (324, 4, 1, tiff_data_offset(10)), (325, 4, 1, 100)]
    with pytest.raises(InvalidImage, match="16384x16384 pixels; at most 4000000"):
        decode(tiff(own + tiles, bytes(100)), LIMIT)


def test_more_strips_than_a_picture_has_are_not_read() -> None:
    """The tags claim a million strips, and the image has one."""
    tags = [(256, 4, 1, 4), (257, 4, 1, 4), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1_000_000, 0)]
    tags += [(277, 3, 1, 1), (278, 4, 1, 4), (279, 4, 1_000_000, 0)]
    offset = tiff_data_offset(9)
    tags[5], tags[8] = (273, 4, 1_000_000, offset), (279, 4, 1_000_000, offset + 4_000_000)
    offsets = struct.pack("<I", offset + 8_000_000) + bytes(3_999_996)
    lengths = struct.pack("<I", 16) + bytes(3_999_996)
    data = tiff(tags, offsets + lengths + bytes(range(16)))
    np.testing.assert_array_equal(pixels(data)[..., 0], np.arange(16).reshape(4, 4))


def test_big_tiff() -> None:
    data = encoded(PICTURE, "TIFF", big_tiff=True)
    assert data[:4] == b"II+\0"
    np.testing.assert_array_equal(pixels(data), np.asarray(PICTURE))
