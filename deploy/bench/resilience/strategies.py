"""Inputs that nobody would send by mistake: image files and JSON bodies, damaged. The same number, the same input."""

import base64
import io
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
from PIL import Image

from deploy.bench.harness import client as asking

_FORMATS: Final = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "ICO")
_MODES: Final = ("RGB", "L", "P", "RGBA", "1", "I;16", "CMYK", "LA")
_PROMPTS: Final = {"a": "a cat", "b": "a dog"}
_INTERESTING: Final = (0, 1, 0x7F, 0x80, 0xFF)
_WORDS: Final = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\x80\0\0\0")
_KINDS: Final = (
    "application/json", "application/json; charset=utf-16", "application/vnd.api+json", "text/plain", "", "image/png",
    "image/jpeg", "image/*", "multipart/form-data", "multipart/form-data; boundary=x", "application/x", "é/x",
)  # fmt: skip
_ODD: Final[tuple[Any, ...]] = (
    None, True, 0, -1, 1e308, 10**400, "", " ", "a", "\x00", "\ud800", "../../etc/passwd", "https://127.0.0.1:1/x",
    "http://169.254.169.254/", "A" * 100_000, "é" * 5000, "<start_of_text>", "&amp;" * 500, [], {}, [[]], [None],
    {"type": "base64"}, {"type": None, "value": None}, {"type": "url", "value": "file:///etc/passwd"},
    {"type": "url", "value": "https://[::1]/"}, {"type": "numpy", "value": "gASVAAAA"}, ["a"] * 65,
)  # fmt: skip


@dataclass(frozen=True)
class Input:
    """One request. ``what``: how it came about, for a person."""

    path: str
    body: bytes
    kind: str  # its Content-Type
    what: str


def make(seed: int, number: int) -> Input:
    """The same for the same numbers, on any machine with the same Pillow."""
    rng = random.Random(f"{seed} {number}")
    return rng.choices(list(_MAKERS), list(_MAKERS.values()))[0](rng)


def _file(rng: random.Random) -> Input:
    data, what = _damaged_image(rng)
    return Input(asking.IMAGE, data, rng.choice(("image/png", "image/jpeg", "image/x-odd")), what)


def _file_in_json(rng: random.Random) -> Input:
    data, what = _damaged_image(rng)
    image = {"type": "base64", "value": base64.b64encode(data).decode()}
    if rng.random() < 0.3:
        return _json("/perception_encoder/compare", {"subject": image, "prompt": _PROMPTS}, f"subject: {what}")
    images = [image, asking.image(asking.picture(1))] if rng.random() < 0.3 else image
    return _json(asking.IMAGE, {"image": images}, what)


def _form(rng: random.Random) -> Input:
    data, what = _damaged_image(rng)
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\nContent-Type: image/png\r\n\r\n'
    body = head + data + b"\r\n--x--\r\n"
    if rng.random() < 0.5:
        body = _damaged(body, rng)
    return Input(asking.IMAGE, body, "multipart/form-data; boundary=x", f"a form: {what}")


def _odd_value(rng: random.Random) -> Input:
    path, value = rng.choice(list(_bodies().items()))
    return _json(path, mutated(value, rng), "an odd value")


def _damaged_json(rng: random.Random) -> Input:
    path, value = rng.choice(list(_bodies().items()))
    return Input(path, _damaged(json.dumps(value).encode(), rng), "application/json", "damaged JSON")


def _odd_kind(rng: random.Random) -> Input:
    path, value = rng.choice(list(_bodies().items()))
    body = json.dumps(value).encode() if rng.random() < 0.5 else rng.randbytes(rng.randrange(300))
    kind = rng.choice(_KINDS)
    return Input(path, body, kind, f"as {kind!r}")


_MAKERS: Final[dict[Callable[[random.Random], Input], int]] = {
    _file: 30, _file_in_json: 20, _form: 8, _odd_value: 22, _damaged_json: 15, _odd_kind: 5,
}  # fmt: skip


def _json(path: str, value: Any, what: str) -> Input:
    return Input(path, json.dumps(value).encode(), "application/json", what)


def mutated(value: Any, rng: random.Random, odd: Sequence[Any] = _ODD) -> Any:
    """The value with something odd somewhere in it."""
    if rng.random() < 0.35 or not isinstance(value, dict | list) or not value:
        return rng.choice(odd)
    if isinstance(value, list):
        place = rng.randrange(len(value))
        return [mutated(item, rng, odd) if i == place else item for i, item in enumerate(value)]
    key = rng.choice(list(value))
    if rng.random() < 0.2:
        return {k: v for k, v in value.items() if k != key}
    return {**value, key: mutated(value[key], rng, odd)}


def _damaged_image(rng: random.Random) -> tuple[bytes, str]:
    kind, mode = rng.choice(_FORMATS), rng.choice(_MODES)
    data = _whole(kind, mode, rng.choice((1, 17, 64)))
    return _damaged(data, rng), f"{kind} of mode {mode}"


def _damaged(data: bytes, rng: random.Random) -> bytes:
    """One to eight changes: most of them small, near the start as often as elsewhere, where headers are."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        size = len(changed)
        if not size:
            break
        at = rng.randrange(min(size, 64)) if rng.random() < 0.5 else rng.randrange(size)
        match rng.randrange(7):
            case 0:
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                changed[at] = rng.choice(_INTERESTING)
            case 2:
                changed[at : at + 4] = rng.choice(_WORDS)
            case 3:
                del changed[at:]
            case 4:
                del changed[at : at + rng.randrange(1, 32)]
            case 5:
                changed[at:at] = changed[at : at + rng.randrange(1, 64)]
            case 6:
                changed[at:at] = rng.randbytes(rng.randrange(1, 16))
    return bytes(changed)


@cache
def _whole(kind: str, mode: str, size: int) -> bytes:
    """A file of noise in that format, in the nearest mode that it knows."""
    noise = np.random.default_rng(size).integers(0, 256, (size, size, 3), np.uint8)
    image: Image.Image = Image.fromarray(noise)
    for wanted in (mode, "RGB"):
        buffer = io.BytesIO()
        try:
            converted = image.convert("I").convert(wanted) if wanted == "I;16" else image.convert(wanted)
            converted.save(buffer, kind)
        except (OSError, ValueError, KeyError):
            continue
        return buffer.getvalue()
    raise AssertionError(f"{kind} cannot be written")


@cache
def _bodies() -> dict[str, Any]:
    """One right body for each route."""
    image = asking.image(asking.picture(200))
    return {
        asking.IMAGE: {"image": image},
        asking.TEXT: {"text": ["a cat", "a dog"]},
        "/perception_encoder/compare": {"subject": image, "prompt": _PROMPTS},
        "/v1/embeddings": {"input": ["a cat", {"image": image["value"]}]},
    }
