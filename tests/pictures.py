"""Pictures for tests: files made in memory, and photographs that scikit-image ships, free to use."""

import base64
import io
from pathlib import Path
from typing import Any, Final

import skimage
from PIL import Image

# scikit-image ships these; what else its `data` module names would be downloaded.
PHOTOGRAPHS = [
    Path(skimage.__file__).parent / "data" / name
    for name in ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "retina.jpg")
]

HEIC: Final = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAchtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAA"
    "ADRpbG9jAAAAAERAAAIAAQAAAAAB7AABAAAAAAAAAFYAAgAAAAACQgABAAAAAAAAACQAAAA4aWluZgAAAAAAAgAAABVpbmZlAgAA"
    "AAABAABodmMxAAAAABVpbmZlAgAAAQACAABFeGlmAAAAAA5waXRtAAAAAAABAAABB2lwcnAAAADmaXBjbwAAAHZodmNDAQNwAAAA"
    "kAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQAqQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbq"
    "5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkAAAATY29scm5jbHgAAQANAAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAAAAAoY2xh"
    "cAAAAEAAAAABAAAAMAAAAAEAAAAAAAAAAv////AAAAACAAAAEHBpeGkAAAAAAwgICAAAAAlpcm90AwAAABlpcG1hAAAAAAAAAAEA"
    "AQaBAgMFhIYAAAAaaXJlZgAAAAAAAAAOY2RzYwACAAEAAQAAAIJtZGF0AAAAUigBrwngITip//XWbX+ysf/ycCeVp79Y9xtUf/Ni"
    "W/jAbdH6SbI89Fh8nkf/wft1vsEGeCw3nxvRsL5fZZwPJdbjHGGZodBRckvI8tWnvzXC5mYAAAAGRXhpZgAATU0AKgAAAAgAAQES"
    "AAMAAAABAAYAAAAAAAA="
)
"""A red picture of 64x48, blue at its top left, made by pillow-heif. EXIF and `irot` both turn it to the right, as an
iPhone's do."""


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
