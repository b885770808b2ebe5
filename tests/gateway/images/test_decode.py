import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from PIL import Image

from gateway.errors import InvalidImage
from gateway.images.decode import decode
from tests.pictures import PHOTOGRAPHS, encoded

LIMIT: Final = 4_000_000
RED: Final = (200, 30, 40)


def gradient(mode: str = "RGB", size: tuple[int, int] = (24, 16)) -> Image.Image:
    width, height = size
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    return Image.fromarray(pixels).convert(mode)


def difference(image: Image.Image, expected: Image.Image) -> float:
    """The mean absolute difference in gray levels."""
    assert image.mode == "RGB"
    assert image.size == expected.size
    return float(np.abs(np.asarray(image, np.int16) - np.asarray(expected.convert("RGB"), np.int16)).mean())


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "JPEG", "WEBP", "AVIF"])
def test_formats(kind: str) -> None:
    image = decode(encoded(gradient(), kind), LIMIT)
    assert difference(image, gradient()) < {"PNG": 0.1, "BMP": 0.1, "TIFF": 0.1}.get(kind, 9)


def test_progressive_jpeg() -> None:
    data = encoded(gradient(), "JPEG", progressive=True, quality=95)
    assert difference(decode(data, LIMIT), gradient()) < 4


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA"])
def test_modes_of_png(mode: str) -> None:
    image = gradient(mode)
    assert difference(decode(encoded(image), LIMIT), image.convert("RGBA").convert("RGB")) == 0


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_dropped_not_composited(kind: str) -> None:
    image = gradient("RGBA")
    image.putalpha(0)
    data = encoded(image, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    assert difference(decode(data, LIMIT), gradient()) == 0


def test_transparent_palette_is_expanded() -> None:
    image = gradient().quantize(32)
    image.info["transparency"] = 0
    assert difference(decode(encoded(image, transparency=0), LIMIT), image.convert("RGBA")) == 0


def test_cmyk_jpeg_is_converted() -> None:
    image = Image.new("RGB", (16, 16), RED).convert("CMYK")
    decoded = decode(encoded(image, "JPEG", quality=95), LIMIT)
    assert np.abs(np.asarray(decoded, np.int16) - RED).max() <= 4


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_gray_keeps_its_high_byte(kind: str) -> None:
    values = np.arange(256 * 16, dtype=np.uint16).reshape(64, 64) * 16
    decoded = np.asarray(decode(encoded(Image.fromarray(values), kind), LIMIT))
    np.testing.assert_array_equal(decoded, np.repeat((values >> 8).astype(np.uint8)[..., None], 3, axis=2))


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_16_bit_gray_is_converted_in_bands(dtype: type[np.generic]) -> None:
    values = (np.arange(700 * 500).reshape(500, 700) % 65_521).astype(dtype)
    decoded = np.asarray(decode(encoded(Image.fromarray(values), "TIFF"), LIMIT))
    np.testing.assert_array_equal(decoded[..., 0], values >> 8)


@pytest.mark.parametrize(("brightest", "gray"), [(255, 100), (65_535, 0)])
def test_the_brightest_pixel_decides_whether_32_bit_gray_is_scaled(brightest: int, gray: int) -> None:
    values = np.full((500, 700), 100, np.int32)
    values[-1, -1] = brightest
    decoded = decode(encoded(Image.fromarray(values), "TIFF"), LIMIT)
    assert decoded.getpixel((0, 0)) == (gray, gray, gray)
    assert decoded.getpixel((699, 499)) == (255, 255, 255)


def test_float_tiff_is_clipped() -> None:
    values = np.array([[-5.0, 0.0, 100.4, 300.0, np.nan]], np.float32)
    decoded = np.asarray(decode(encoded(Image.fromarray(values), "TIFF"), LIMIT))
    assert decoded[0, :, 0].tolist() == [0, 0, 100, 255, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = gradient(size=(32, 16))
    decoded = decode(encoded(image, "PNG", exif=exif), LIMIT)
    # https://exiftool.org/TagNames/EXIF.html: the operations that make the stored image upright
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    assert difference(decoded, image.transpose(undo[orientation]) if orientation > 1 else image) == 0


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, (0, 255, 0), (0, 0, 255))]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.abs(np.asarray(decode(data, LIMIT), np.int16) - RED).max() <= 8


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1)])
def test_thin_images(size: tuple[int, int]) -> None:
    assert decode(encoded(Image.new("RGB", size, RED)), LIMIT).size == size


@pytest.mark.parametrize("path", PHOTOGRAPHS, ids=lambda path: path.name)
def test_photographs(path: Path) -> None:
    data = path.read_bytes()
    assert difference(decode(data, LIMIT), Image.open(io.BytesIO(data))) == 0


JPEG: Final = encoded(gradient(size=(200, 200)), "JPEG")
PNG: Final = encoded(gradient(size=(200, 200)))


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "Data is not image."),
        (b"x", "Data is not image."),
        (b"hello, world", "Data is not image."),
        (b"\x89PNG\r\n\x1a\n", "The PNG image is damaged or incomplete."),
        (PNG[: len(PNG) // 2], "The PNG image is damaged or incomplete."),
        (JPEG[: len(JPEG) // 2], "The JPEG image is damaged or incomplete."),
        (JPEG[:20], "The JPEG image is damaged or incomplete."),
        (b"GIF89a" + bytes(20), "The GIF image is damaged or incomplete."),
        (b"RIFF\xff\xff\xff\xffWEBPVP8 ", "The WebP image is damaged or incomplete."),
        (b"II*\x00\x08\x00\x00\x00" + b"\xff" * 64, "The TIFF image is damaged or incomplete."),
        (b"BM" + bytes(60), "The BMP image is damaged or incomplete."),
    ],
)
def test_other_data_is_refused(data: bytes, cause: str) -> None:
    with pytest.raises(InvalidImage) as raised:
        decode(data, LIMIT)
    assert raised.value.cause == cause


def test_a_damaged_file_is_decoded_or_refused() -> None:
    """A mutated file raises nothing but `InvalidImage`."""
    rng = np.random.default_rng(7)
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "AVIF"):
        original = np.frombuffer(encoded(gradient(size=(40, 30)), kind), np.uint8)
        for _ in range(60):
            damaged = original.copy()
            places = rng.integers(0, len(damaged), rng.integers(1, 8))
            damaged[places] = rng.integers(0, 256, len(places))
            try:
                assert decode(damaged.tobytes(), LIMIT).mode == "RGB"
            except InvalidImage as error:
                assert str(error).startswith("Could not load input image. Cause: ")  # noqa: PT017


def test_a_decompression_bomb_is_refused_before_memory_is_allocated() -> None:
    """In a separate process, because the system reports only the peak memory of a process."""
    # After a full flush, equal input compresses to equal output, so 100 rows of zeros are compressed once.
    deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    rows = deflate.compress(bytes(100 * 20_001)) + deflate.flush(zlib.Z_FULL_FLUSH)
    adler32_of_zeros = (20_000 * 20_001 % 65_521) << 16 | 1
    data = b"\x78\xda" + rows * 200 + deflate.flush() + struct.pack(">I", adler32_of_zeros)
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    assert 300_000 < len(bomb) < 500_000
    script = """
import resource, sys
from gateway.images.decode import decode
from gateway.errors import InvalidImage
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
bomb, before = sys.stdin.buffer.read(), peak()
for _ in range(3):
    try:
        decode(bomb, 100_000_000)
    except InvalidImage as error:
        print(error.cause)
print(peak() - before)
"""
    run = subprocess.run([sys.executable, "-c", script], input=bomb, capture_output=True, check=True)
    *causes, kibibytes = run.stdout.decode().splitlines()
    assert causes == ["The image has 20000x20000 pixels; at most 100000000 are allowed."] * 3
    assert int(kibibytes) < 50_000


def test_too_many_pixels_are_refused() -> None:
    with pytest.raises(InvalidImage, match="2100x2000 pixels; at most 4000000"):
        decode(encoded(Image.new("1", (2_100, 2_000))), LIMIT)
