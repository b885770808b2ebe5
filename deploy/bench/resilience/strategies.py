"""Hypothesis strategies for damaged requests: image files, JSON bodies and forms."""

import io
import json
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from deploy.bench.harness import client

_FORMATS: Final = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "ICO")
_MODES: Final = ("RGB", "L", "P", "RGBA", "1", "I;16", "CMYK", "LA")
_KINDS: Final = ("application/json; charset=utf-16", "application/vnd.api+json", "text/plain", "", "image/*",
                 "multipart/form-data", "multipart/form-data; boundary=x", "application/x", "é/x")  # fmt: skip
# Values that a generator of random JSON does not find.
ODD: Final[tuple[Any, ...]] = (
    None, True, 0, -1, 1e308, 10**400, "", " ", "a", "\x00", "\ud800", "../../etc/passwd", "https://127.0.0.1:1/x",
    "http://169.254.169.254/", "A" * 100_000, "é" * 5000, "<start_of_text>", "&amp;" * 500, [], {}, [[]], [None],
    {"type": "base64"}, {"type": None, "value": None}, {"type": "url", "value": "file:///etc/passwd"},
    {"type": "url", "value": "https://[::1]/"}, {"type": "numpy", "value": "gASVAAAA"}, ["a"] * 65,
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """One request to POST."""

    path: str
    body: bytes
    kind: str = "application/json"  # its Content-Type


@cache
def bodies() -> dict[str, Any]:
    """Return a valid JSON body for each route."""
    image = client.grey(200)
    return {
        client.IMAGE: {"image": image},
        client.TEXT: {"text": ["a cat", "a dog"]},
        client.COMPARE: {"subject": image, "prompt": {"a": "a cat", "b": "a dog"}},
        "/v1/embeddings": {"input": ["a cat", {"image": image["value"]}]},
    }


def altered(value: Any) -> st.SearchStrategy[Any]:
    """Replace one part of a JSON value by an odd one, or leave one key out."""
    choices: list[st.SearchStrategy[Any]] = [st.sampled_from(ODD)]
    if isinstance(value, dict):
        for key, item in value.items():
            choices.append(st.just({k: v for k, v in value.items() if k != key}))
            choices.append(altered(item).map(lambda new, key=key: {**value, key: new}))  # type: ignore[misc]
    elif isinstance(value, list):
        for i, item in enumerate(value):
            choices.append(altered(item).map(lambda new, i=i: [*value[:i], new, *value[i + 1 :]]))  # type: ignore[misc]
    return st.one_of(choices)


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Replace up to eight stretches of a file by random bytes: overwrite, insert, delete, or cut it off."""
    changed = bytearray(data)
    for _ in range(draw(st.sampled_from((1, 1, 1, 2, 3, 8)))):
        # Half of the changes are near the start, where the headers are.
        at = draw(st.integers(0, 64) | st.integers(0, len(changed)))
        length = draw(st.integers(0, 4) | st.sampled_from((32, len(changed))))
        changed[at : at + length] = draw(st.binary(max_size=8))
    return bytes(changed)


@cache
def _noise(kind: str, mode: str, size: int) -> bytes:
    """Encode a square of noise in that format, in the mode or, if the format does not have it, in RGB."""
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


_images = st.builds(
    _noise, st.sampled_from(_FORMATS), st.sampled_from(_MODES), st.sampled_from((1, 17, 64))
).flatmap(damaged)  # fmt: skip
_bodies = st.sampled_from(tuple(bodies()))


def _in_json(data: bytes) -> st.SearchStrategy[Request]:
    image = client.image_json(data)
    compare = {"subject": image, "prompt": ["a cat"]}
    return st.sampled_from(
        [
            (client.IMAGE, {"image": image}),
            (client.IMAGE, {"image": [image, client.grey(1)]}),
            (client.COMPARE, compare),
        ]
    ).map(lambda request: Request(request[0], json.dumps(request[1]).encode()))


def _form(data: bytes) -> Request:
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\nContent-Type: image/png\r\n\r\n'
    return Request(client.IMAGE, head + data + b"\r\n--x--\r\n", "multipart/form-data; boundary=x")


def _valid(path: str) -> bytes:
    return json.dumps(bodies()[path]).encode()


def requests() -> st.SearchStrategy[Request]:
    """Build requests with damaged images, JSON values or bytes, or a wrong Content-Type."""
    files = st.builds(Request, st.just(client.IMAGE), _images, st.sampled_from(("image/png", "image/jpeg", "image/x")))
    forms = _images.map(_form)
    damaged_forms = forms.flatmap(lambda form: damaged(form.body).map(lambda b: Request(form.path, b, form.kind)))
    values = _bodies.flatmap(lambda path: altered(bodies()[path]).map(lambda v: Request(path, json.dumps(v).encode())))
    broken = _bodies.flatmap(lambda path: damaged(_valid(path)).map(lambda data: Request(path, data)))
    kinds = st.builds(lambda path, kind: Request(path, _valid(path), kind), _bodies, st.sampled_from(_KINDS))
    return st.one_of(files, files, _images.flatmap(_in_json), _images.flatmap(_in_json), forms, damaged_forms, values,
                     values, broken, kinds)  # fmt: skip
