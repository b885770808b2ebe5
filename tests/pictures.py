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

# Stored upright, 16 x 24: red above blue. `irot` turns it, and EXIF says the same once more, for information.
HEIC: Final = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAbNtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAADRpbG9jAAAA"
    "AERAAAIAAQAAAAAB1wABAAAAAAAAAHAAAgAAAAACRwABAAAAAAAAACQAAAA4aWluZgAAAAAAAgAAABVpbmZlAgAAAAABAABodmMxAAAAABVpbmZl"
    "AgAAAQACAABFeGlmAAAAAA5waXRtAAAAAAABAAAA8mlwcnAAAADSaXBjbwAAAHVodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH/"
    "/wNwAAADAJAAAAMAAAMAHroCQGEAAQApQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbqrprm4CGgwIAAAAyAAAADAIRiAAEABkQBwXPBiQAAABRpc3Bl"
    "AAAAAAAAAEAAAABAAAAAKGNsYXAAAAAQAAAAAQAAABgAAAAB////0AAAAAL////YAAAAAgAAABBwaXhpAAAAAAMICAgAAAAJaXJvdAMAAAAYaXBt"
    "YQAAAAAAAAABAAEFgQIEg4UAAAAaaXJlZgAAAAAAAAAOY2RzYwACAAEAAQAAAJxtZGF0AAAAbCgBrwnIai0aI5tR/zV/+Tuhsgb76Fa5AVImJxJL"
    "/iB7Cr13m7ss1xz//7C//L5sEpD0AZX9VpJx2uk9Ow8IXYxx6J5HgY/FCeDE9bjby1mT3fGUsdaU0+LpJHlaiWXQ0Xbgxl8l6MNumsgG/gAAAAZF"
    "eGlmAABNTQAqAAAACAABARIAAwAAAAEABgAAAAAAAA=="
)


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
