"""Layouts of TIFF that Pillow refuses or mistakes by itself. Each is built by hand, in both byte orders."""

import struct
import zlib
from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.images.decode import decode

LIMIT: Final = 10_000
RGB: Final = np.random.default_rng(5).integers(0, 256, (5, 7, 3), np.uint8)
GRAY: Final = RGB[..., 0]
ALPHA: Final = RGB[..., 1]
DEEP: Final = RGB.astype(np.uint16) * 256 + RGB[::-1]
DEEP_ALPHA: Final = np.dstack([DEEP, DEEP[..., :1]])
DEEP_GRAY: Final = DEEP[..., 0]
HALVED: Final = (RGB >> 1).astype(np.uint8)
WHITE_IS_ZERO, BLACK_IS_ZERO, COLOURS, PALETTE, YCBCR = 0, 1, 2, 3, 6
UNSPECIFIED, PREMULTIPLIED, SEPARATE_ALPHA = 0, 1, 2
SIGNED, FLOAT = 2, 3
SHORT, LONG, LONG8 = 3, 4, 16


def tiff(
    samples: NDArray[Any],
    photometric: int,
    order: str,
    *,
    extra: int | None = None,
    sample_format: int = 1,
    planar: bool = False,
    deflated: bool = False,
    big: bool = False,
    more: dict[int, list[int]] | None = None,
) -> bytes:
    """A TIFF with one strip, or one for each plane."""
    height, width, count = np.atleast_3d(samples).shape
    planes = [samples[..., sample] for sample in range(count)] if planar else [samples]
    strips = [plane.astype(plane.dtype.newbyteorder(order)).tobytes() for plane in planes]  # type: ignore[arg-type]
    strips = [zlib.compress(strip) for strip in strips] if deflated else strips
    start = 16 if big else 8
    offsets = [start + sum(map(len, strips[:number])) for number in range(len(strips))]
    bits = [samples.dtype.itemsize * 8] * count
    offset_kind = LONG8 if big else LONG
    tags: dict[int, tuple[int, list[int]]] = {
        256: (SHORT, [width]), 257: (SHORT, [height]), 258: (SHORT, bits), 259: (SHORT, [8 if deflated else 1]),
        262: (SHORT, [photometric]), 273: (offset_kind, offsets), 277: (SHORT, [count]), 278: (SHORT, [height]),
        279: (offset_kind, [len(strip) for strip in strips]), 284: (SHORT, [2 if planar else 1]),
        339: (SHORT, [sample_format] * count), **{tag: (SHORT, values) for tag, values in (more or {}).items()},
    }  # fmt: skip
    if extra is not None:
        tags[338] = (SHORT, [extra])
    return _file(strips, tags, order, big)


def _file(strips: list[bytes], tags: dict[int, tuple[int, list[int]]], order: str, big: bool) -> bytes:
    wide = struct.Struct(order + ("Q" if big else "I"))
    body, entries = bytearray(16 if big else 8) + b"".join(strips), b""
    for tag, (kind, values) in sorted(tags.items()):
        code = {SHORT: "H", LONG: "I", LONG8: "Q"}[kind]
        packed = struct.pack(f"{order}{len(values)}{code}", *values)
        if len(packed) > wide.size:
            body, packed = body + packed, wide.pack(len(body))
        entries += struct.pack(order + "HH", tag, kind) + wide.pack(len(values)) + packed.ljust(wide.size, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(
        order + ("HHH" if big else "H"), *((43, 8, 0) if big else (42,))
    )
    body[: len(head) + wide.size] = head + wide.pack(len(body))
    return bytes(body) + struct.pack(order + ("Q" if big else "H"), len(tags)) + entries + bytes(8)


def pixels(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(decode(data, LIMIT))


def gray(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.repeat(values[..., None], 3, axis=2).astype(np.uint8)


LAYOUTS: Final[dict[str, tuple[NDArray[Any], int, dict[str, Any], NDArray[np.uint8]]]] = {
    "gray and alpha of no kind": (np.dstack([GRAY, ALPHA]), BLACK_IS_ZERO, {"extra": UNSPECIFIED}, gray(GRAY)),
    "gray of 16 bits and alpha": (DEEP[..., :2], BLACK_IS_ZERO, {"extra": SEPARATE_ALPHA}, gray(DEEP_GRAY >> 8)),
    "gray of 16 bits, premultiplied": (DEEP[..., :2], BLACK_IS_ZERO, {"extra": PREMULTIPLIED}, gray(DEEP_GRAY >> 8)),
    "16 bits, white is zero": (DEEP_GRAY, WHITE_IS_ZERO, {}, gray(255 - (DEEP_GRAY >> 8))),
    "8 bits, white is zero": (GRAY, WHITE_IS_ZERO, {}, gray(255 - GRAY)),
    "three samples of gray": (RGB, BLACK_IS_ZERO, {}, gray(GRAY)),
    "three samples of gray, 16 bits": (DEEP, BLACK_IS_ZERO, {}, gray(DEEP_GRAY >> 8)),
    "premultiplied colours": (np.dstack([RGB, ALPHA]), COLOURS, {"extra": PREMULTIPLIED}, RGB),
    "premultiplied colours, 16 bits": (DEEP_ALPHA, COLOURS, {"extra": PREMULTIPLIED}, RGB),
    "colours and alpha, 16 bits": (DEEP_ALPHA, COLOURS, {"extra": SEPARATE_ALPHA}, RGB),
    "signed colours": (HALVED, COLOURS, {"sample_format": SIGNED}, HALVED),
    "signed colours, 16 bits": (DEEP >> 1, COLOURS, {"sample_format": SIGNED}, HALVED),
    "signed gray, 16 bits": (DEEP_GRAY, BLACK_IS_ZERO, {"sample_format": SIGNED}, gray(DEEP_GRAY >> 8)),
    "signed gray, 32 bits": (GRAY.astype(np.int32), BLACK_IS_ZERO, {"sample_format": SIGNED}, gray(GRAY)),
    "gray in floats": (GRAY.astype(np.float32), BLACK_IS_ZERO, {"sample_format": FLOAT}, gray(GRAY)),
    "colour": (RGB, COLOURS, {}, RGB),
    "colour, 16 bits": (DEEP, COLOURS, {}, RGB),
}  # fmt: skip


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True], ids=["TIFF", "BigTIFF"])
@pytest.mark.parametrize("deflated", [False, True], ids=["plain", "deflated"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(name: str, deflated: bool, big: bool, order: str) -> None:
    samples, photometric, options, expected = LAYOUTS[name]
    data = tiff(samples, photometric, order, deflated=deflated, big=big, **options)
    np.testing.assert_array_equal(pixels(data), expected)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("deflated", [False, True], ids=["plain", "deflated"])
@pytest.mark.parametrize(
    ("samples", "extra"),
    [(RGB, None), (DEEP, None), (np.dstack([RGB, ALPHA]), UNSPECIFIED), (DEEP_ALPHA, SEPARATE_ALPHA)],
    ids=["8 bits", "16 bits", "8 bits and more", "16 bits and alpha"],
)
def test_samples_may_lie_in_planes(samples: NDArray[Any], extra: int | None, deflated: bool, order: str) -> None:
    data = tiff(samples, COLOURS, order, extra=extra, planar=True, deflated=deflated)
    np.testing.assert_array_equal(pixels(data), RGB)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_colour_map_has_8_or_16_bits(bits: int, order: str) -> None:
    colours = np.random.default_rng(6).integers(0, 256, (3, 256))
    data = tiff(GRAY, PALETTE, order, more={320: (colours << bits - 8).ravel().tolist()})
    np.testing.assert_array_equal(pixels(data), colours.T[GRAY].astype(np.uint8))


def test_bits_may_be_in_the_other_order() -> None:
    bits = np.unpackbits(GRAY[..., None], axis=2)
    data = tiff(np.packbits(bits[..., ::-1], axis=2)[..., 0], BLACK_IS_ZERO, "<", more={266: [2]})
    np.testing.assert_array_equal(pixels(data), gray(GRAY))


def test_ycbcr_that_is_not_compressed() -> None:
    luminance = np.dstack([GRAY, np.full_like(GRAY, 128), np.full_like(GRAY, 128)])
    data = tiff(luminance, YCBCR, "<", more={530: [1, 1]})
    assert np.abs(pixels(data).astype(np.int16) - gray(GRAY)).max() <= 1
