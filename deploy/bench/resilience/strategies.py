"""Hypothesis strategies for damaged requests: image files, JSON bodies and forms."""

import io
import json
import random
from dataclasses import dataclass, replace
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
    {"type": "url", "value": "https://[::1]/"}, {"type": "numpy", "value": "gASVAAAA"}, ["a"] * 2_049,
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


def damage(data: bytes, seed: int) -> bytes:
    """Replace up to eight stretches of a file by random bytes: overwrite, insert, delete, or cut it off.

    A seeded generator does this and not Hypothesis, whose many small choices took 5 ms per request.
    """
    rng, changed = random.Random(seed), bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        # Half of the changes are near the start, where the headers are.
        at = rng.randrange(rng.choice((64, len(changed) + 1)))
        length = rng.choice((0, 1, 4, 32, len(changed)))
        changed[at : at + length] = rng.randbytes(rng.choice((0, 1, 4, 16)))
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


_seeds = st.integers(0, 2**32)
_noises = st.builds(_noise, st.sampled_from(_FORMATS), st.sampled_from(_MODES), st.sampled_from((1, 17, 64)))
_images = st.builds(damage, _noises, _seeds)
_paths = st.sampled_from(tuple(bodies()))


def _json(path: str, value: Any) -> Request:
    return Request(path, json.dumps(value).encode())


def _in_json(data: bytes) -> st.SearchStrategy[Request]:
    image = client.image_json(data)
    return st.sampled_from(
        [
            _json(client.IMAGE, {"image": image}),
            _json(client.IMAGE, {"image": [image, client.grey(1)]}),
            _json(client.COMPARE, {"subject": image, "prompt": ["a cat"]}),
        ]
    )


def _form(data: bytes) -> Request:
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\nContent-Type: image/png\r\n\r\n'
    return Request(client.IMAGE, head + data + b"\r\n--x--\r\n", "multipart/form-data; boundary=x")


def _damage_body(request: Request, seed: int) -> Request:
    return replace(request, body=damage(request.body, seed))


@cache
def requests() -> st.SearchStrategy[Request]:
    """Build requests with damaged images, JSON values or bytes, or a wrong Content-Type."""
    files = st.builds(Request, st.just(client.IMAGE), _images, st.sampled_from(("image/png", "image/jpeg", "image/x")))
    in_json = _images.flatmap(_in_json)
    forms = _images.map(_form)
    valid = _paths.map(lambda path: _json(path, bodies()[path]))
    values = st.one_of([altered(body).map(lambda v, path=path: _json(path, v)) for path, body in bodies().items()])  # type: ignore[misc]
    kinds = st.builds(lambda request, kind: replace(request, kind=kind), valid, st.sampled_from(_KINDS))
    # Most requests have damaged images, and few have a wrong Content-Type.
    return st.one_of(
        files, files, files, in_json, in_json, forms, st.builds(_damage_body, forms, _seeds), values, values,
        st.builds(_damage_body, valid, _seeds), kinds,
    )  # fmt: skip
