"""BMPs by hand: Pillow writes only plain ones."""

import struct
from typing import Final

import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.errors import InvalidImage
from gateway.images.decode import decode

LIMIT: Final = 10_000
RGB: Final = np.random.default_rng(3).integers(0, 256, (5, 7, 3), np.uint8)
PALETTE: Final = np.random.default_rng(4).integers(0, 256, (16, 3), np.uint8)
RUN_OF_8_BITS, RUN_OF_4_BITS, BIT_FIELDS, ALPHA_BIT_FIELDS = 1, 2, 3, 6


def bmp(
    bits: int, pixels: bytes, compression: int, height: int = 5, header: int = 40, masks: tuple[int, ...] = ()
) -> bytes:
    palette = b"" if bits > 8 else np.pad(PALETTE[:, ::-1], ((0, 0), (0, 1))).tobytes()
    colours = len(palette) // 4
    info = struct.pack("<IiiHHIIiiII", header, 7, height, 1, bits, compression, len(pixels), 0, 0, colours, 0)
    info = (info + struct.pack(f"<{len(masks)}I", *masks)).ljust(header, b"\0") + palette
    return b"BM" + struct.pack("<IHHI", 14 + len(info) + len(pixels), 0, 0, 14 + len(info)) + info + pixels


def rows(values: NDArray[np.uint32], bits: int) -> bytes:
    """From the lowest row, each filled up to four bytes."""
    return b"".join(row.tobytes() + bytes(-row.nbytes % 4) for row in values.astype(f"<u{bits // 8}")[::-1])


@pytest.mark.parametrize(
    ("bits", "masks"),
    [
        (32, (0xFF00, 0xFF0000, 0xFF000000)),
        (32, (0xFF, 0xFF00, 0xFF0000)),
        (32, (0xFF0000, 0xFF00, 0xFF)),
        (32, (0x3FF00000, 0xFFC00, 0x3FF)),
        (32, (0xFF000000, 0xFF00, 0xFF0000)),
        (16, (0xF00, 0xF0, 0xF)),
        (16, (0xF800, 0x7E0, 0x1F)),
        (16, (0x1F, 0x7E0, 0xF800)),
    ],
)
@pytest.mark.parametrize(("header", "compression"), [(40, 3), (40, 6), (52, 3), (56, 3), (108, 3), (124, 3)])
def test_colours_lie_behind_masks(bits: int, masks: tuple[int, int, int], header: int, compression: int) -> None:
    values = np.zeros(RGB.shape[:2], np.uint32)
    expected = np.zeros(RGB.shape)
    for channel, mask in enumerate(masks):
        lowest = (mask & -mask).bit_length() - 1
        levels = mask >> lowest
        level = np.rint(RGB[..., channel] / 255 * levels).astype(np.uint32)
        values |= (level << lowest).astype(np.uint32)
        expected[..., channel] = level * 255 / levels
    alpha = (0,) if header >= 56 or compression == ALPHA_BIT_FIELDS else ()
    decoded = np.asarray(decode(bmp(bits, rows(values, bits), compression, 5, header, (*masks, *alpha)), LIMIT))
    assert np.abs(decoded - expected).max() <= 1


def test_a_channel_may_have_no_mask() -> None:
    data = bmp(32, rows(np.full((5, 7), 0xFFFFFFFF, np.uint32), 32), BIT_FIELDS, masks=(0xFF0000, 0, 0xFF))
    assert decode(data, LIMIT).getcolors() == [(35, (255, 0, 255))]


def test_rows_may_begin_at_the_top() -> None:
    values = (RGB.astype(np.uint32) << [0, 8, 16]).sum(axis=2)
    data = bmp(32, rows(values[::-1], 32), BIT_FIELDS, -5, masks=(0xFF, 0xFF00, 0xFF0000))
    np.testing.assert_array_equal(np.asarray(decode(data, LIMIT)), RGB)


def test_a_truncated_file_is_refused() -> None:
    data = bmp(32, rows(np.zeros((5, 7), np.uint32), 32), BIT_FIELDS, masks=(0xFF, 0xFF00, 0xFF0000))
    for length in (20, 60, len(data) - 1):
        with pytest.raises(InvalidImage, match="The BMP image is damaged or incomplete"):
            decode(data[:length], LIMIT)


END_OF_ROW, END, MOVE = b"\0\0", b"\0\1", b"\0\2"
RUN_LENGTH: Final = {
    # Four bits: an odd number of pixels as they are, then a run of two colours in turn.
    "four bits": (4, RUN_OF_4_BITS, b"\0\3\x12\x30" + b"\4\x45" + END_OF_ROW, [1, 2, 3, 4, 5, 4, 5]),
    "five of four bits": (4, RUN_OF_4_BITS, b"\0\5\x12\x34\x50\0" + b"\2\x67" + END_OF_ROW, [1, 2, 3, 4, 5, 6, 7]),
    "eight bits": (8, RUN_OF_8_BITS, b"\0\3\1\2\3\0" + b"\4\5" + END_OF_ROW, [1, 2, 3, 5, 5, 5, 5]),
    "a run that is too long": (8, RUN_OF_8_BITS, b"\xff\5" + END_OF_ROW, [5] * 7),
    "the rest of the row is left out": (8, RUN_OF_8_BITS, b"\2\5" + END_OF_ROW, [5, 5, 0, 0, 0, 0, 0]),
    "pixels are left out": (8, RUN_OF_8_BITS, MOVE + b"\2\0" + b"\2\5" + END_OF_ROW, [0, 0, 5, 5, 0, 0, 0]),
}


@pytest.mark.parametrize("name", RUN_LENGTH)
@pytest.mark.parametrize("end", [END, b""], ids=["with an end", "without an end"])
def test_run_lengths(name: str, end: bytes) -> None:
    bits, compression, lowest, indices = RUN_LENGTH[name]
    whole = b"\7\x22" if bits == 4 else b"\7\2"
    data = bmp(bits, lowest + (whole + END_OF_ROW) * 3 + whole + end, compression)
    expected = np.broadcast_to(PALETTE[2], (5, 7, 3)).copy()
    expected[4] = PALETTE[indices]
    np.testing.assert_array_equal(np.asarray(decode(data, LIMIT)), expected)


@pytest.mark.parametrize(("bits", "compression", "two"), [(4, RUN_OF_4_BITS, b"\x22"), (8, RUN_OF_8_BITS, b"\2")])
def test_run_lengths_may_leave_out_rows(bits: int, compression: int, two: bytes) -> None:
    data = bmp(bits, b"\7" + two + END_OF_ROW + MOVE + b"\1\1" + b"\2" + two + END, compression)
    expected = np.broadcast_to(PALETTE[0], (5, 7, 3)).copy()
    expected[4] = expected[2, 1:3] = PALETTE[2]
    np.testing.assert_array_equal(np.asarray(decode(data, LIMIT)), expected)


@pytest.mark.parametrize("kept", range(12))
def test_run_lengths_that_end_early_are_refused(kept: int) -> None:
    pixels = (b"\0\3\1\2\3\0" + b"\4\5" + END_OF_ROW) * 5
    with pytest.raises(InvalidImage, match="The BMP image is damaged or incomplete"):
        decode(bmp(8, pixels[:kept], RUN_OF_8_BITS), LIMIT)
