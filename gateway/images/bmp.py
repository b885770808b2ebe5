"""Read the BMPs that Pillow refuses or garbles: colours behind unusual masks, and run-length encoded pixels.

https://learn.microsoft.com/en-us/windows/win32/gdi/bitmap-compression
"""

import struct
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

_INFO_HEADER: Final = 40
_MASKS_FOLLOW: Final = frozenset((3, 6))  # BI_BITFIELDS, BI_ALPHABITFIELDS
# Red, green, blue, alpha. Pillow reads these fast.
_READ_BY_PILLOW: Final = frozenset(
    (*colours, alpha)
    for colours in ((0xFF0000, 0xFF00, 0xFF), (0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F))
    for alpha in (0, 0xFF000000, 0x8000)
)


def with_plain_pixels(data: bytes) -> bytes:
    """Convert a BMP with unusual masks to one of 24 bits. Any other BMP is returned as it is.

    Raises:
        struct.error, ValueError: the file ends early.
    """
    header = struct.unpack_from("<I", data, 14)[0]
    if header < _INFO_HEADER:
        return data
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    if compression not in _MASKS_FOLLOW or bits not in (16, 32):
        return data
    has_alpha = header >= 56 or compression == 6
    masks = struct.unpack_from("<4I" if has_alpha else "<3I", data, 14 + _INFO_HEADER)
    if compression == 3 and (*masks, 0)[:4] in _READ_BY_PILLOW:
        return data
    start, row = struct.unpack_from("<I", data, 10)[0], (width * bits + 31) // 32 * 4
    stored = np.frombuffer(data, np.uint8, row * abs(height), start).reshape(abs(height), row)
    pixels = stored.view(f"<u{bits // 8}")[:, :width]
    rows = np.zeros((abs(height), -(-width * 3 // 4) * 4), np.uint8)
    for channel, mask in enumerate(reversed(masks[:3])):
        rows[:, channel : width * 3 : 3] = _eight_bits(pixels, mask)
    head = struct.pack("<IiiHHIIiiII", _INFO_HEADER, width, height, 1, 24, 0, rows.size, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + rows.size, 0, 0, 54) + head + rows.tobytes()


def _eight_bits(pixels: NDArray[Any], mask: int) -> NDArray[np.uint8]:
    """Take the bits of a mask from each pixel, and scale them to 0 to 255."""
    if not mask:
        return np.zeros(pixels.shape, np.uint8)
    lowest = (mask & -mask).bit_length() - 1
    values: NDArray[Any] = (pixels & np.array(mask, pixels.dtype)) >> lowest
    return np.rint(values * np.float32(255 / (mask >> lowest))).astype(np.uint8)


_TWO_PIXELS: Final = [bytes((byte >> 4, byte & 0x0F)) for byte in range(256)]


class RunLengthDecoder(ImageFile.PyDecoder):
    """Pillow's decoder `bmp_rle`, without its faults: odd numbers of pixels of 4 bits, and pixels that are left out."""

    _pulls_fd = True

    def decode(self, buffer: Image.DecoderInput) -> tuple[int, int]:
        assert self.fd is not None
        data, four_bits = self.fd.read(), bool(self.args[1])
        width, height = self.state.xsize, self.state.ysize
        pixels = bytearray(width * height)
        at = x = y = 0
        while y < height:
            count, value = data[at : at + 2]  # raises ValueError where the file ends early
            at += 2
            if not count and value == 0:
                x, y = 0, y + 1
                continue
            if not count and value == 1:
                break
            if not count and value == 2:
                right, up = data[at : at + 2]
                at, x, y = at + 2, x + right, y + up
                continue
            if count:
                run = (_TWO_PIXELS[value] if four_bits else bytes((value,))) * count
            else:
                count, size = value, (value + 1) // 2 if four_bits else value
                run = data[at : at + size]
                run = b"".join(map(_TWO_PIXELS.__getitem__, run)) if four_bits else run
                at += size + size % 2
            run = run[: max(0, min(count, width - x))]
            offset = y * width + x
            pixels[offset : offset + len(run)] = run
            x += count
            if at >= len(data) and y == height - 1 and x >= width:
                break  # the last mark is missing, and no pixel
        self.set_as_raw(bytes(pixels), "L" if self.mode == "L" else "P", (0, self.args[-1]))
        return -1, 0
