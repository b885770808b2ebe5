"""Photographs to send, as JPEG files of 640x480 and of 12 megapixels."""

import importlib.util
import io
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw

SMALL: Final = (640, 480)
LARGE: Final = (4000, 3000)
_QUALITY: Final = 90
# scikit-image ships these files, free to use. It would download the other pictures that it names.
_NAMES: Final = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "retina.jpg")


def photographs() -> tuple[list[Image.Image], str]:
    """Return RGB pictures and their source. Draw pictures if scikit-image is not installed."""
    if (found := importlib.util.find_spec("skimage")) and found.origin:
        folder = Path(found.origin).parent / "data"
        files = [folder / name for name in _NAMES if (folder / name).exists()]
        if files:
            return [Image.open(file).convert("RGB") for file in files], "photographs of scikit-image"
    return [_drawn(seed) for seed in range(5)], "drawn, because scikit-image is not installed"


def _drawn(seed: int) -> Image.Image:
    """Draw a noisy gradient with shapes, which takes about as long to decode as a photograph."""
    noise = Image.effect_noise(SMALL, 30 + 10 * seed)
    image = Image.merge("RGB", (noise, Image.linear_gradient("L").resize(SMALL), noise.rotate(180)))
    draw = ImageDraw.Draw(image)
    for i in range(12):
        draw.ellipse((40 * i, 30 * i, 40 * i + 90, 30 * i + 60 + 10 * seed), fill=(20 * i, 255 - 20 * i, 40 * seed))
    return image


def jpeg(image: Image.Image, size: tuple[int, int]) -> bytes:
    """Encode the picture as JPEG of that size [width, height].

    An enlarged picture decodes a little faster than a photograph of that size would.
    """
    buffer = io.BytesIO()
    image.resize(size, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
