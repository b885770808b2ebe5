"""Pictures for tests: files made in memory, and photographs that scikit-image ships, free to use."""

import base64
import io
from pathlib import Path
from typing import Any

import skimage
from PIL import Image

# scikit-image ships these; what else its `data` module names would be downloaded.
PHOTOGRAPHS = [
    Path(skimage.__file__).parent / "data" / name
    for name in ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "retina.jpg")
]


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def flat(colour: tuple[int, int, int], size: tuple[int, int] = (20, 10)) -> bytes:
    """A PNG of one colour."""
    return encoded(Image.new("RGB", size, colour))


def base64_image(data: bytes) -> dict[str, str]:
    """The wire's image object."""
    return {"type": "base64", "value": base64.b64encode(data).decode()}
