"""What a client may declare an image to be: Roboflow's wire types become one of these. Nothing is guessed at."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pybase64
import regex

from gateway.errors import InvalidImage

_DATA_URI = regex.compile(r"\s*data:[^,;]*(?:;[^,;]*)*?;base64,", regex.IGNORECASE)
_OUTSIDE_ALPHABET = regex.compile(rb"[^A-Za-z0-9+/]+")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """The bytes of an image file."""

    data: bytes
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Base64Image:
    """An image file in base64, with or without a ``data:`` prefix."""

    text: str
    index: int | None = None


@dataclass(frozen=True, slots=True)
class UrlImage:
    """An image file to be fetched."""

    url: str
    index: int | None = None


@dataclass(frozen=True, slots=True)
class ArrayImage:
    """A numpy array in base64: pickled, as Roboflow's clients send it, or in ``.npy`` format. Channels are BGR."""

    text: str
    index: int | None = None


ImageSource = EncodedImage | Base64Image | UrlImage | ArrayImage
"""`index` is the position in the request's list, by which errors name the image. A single image has none."""

_UNKNOWN_TYPE = "Image declaration contains not recognised image type."
# Types of Roboflow's own processes. Over JSON they have no meaning, or would read the server's disk.
_REFUSED = {
    "file": "Loading images from local filesystem is disabled.",
    "multipart": "Images of type `multipart` cannot be sent as JSON.",
    "numpy_object": "Data provided as input could not be decoded into np.ndarray object.",
    "pil": "Images of type `pil` cannot be sent as JSON.",
}


def item_indices(count: int) -> Sequence[int | None]:
    """The `index` of each of `count` items of a request. A single item has none."""
    return range(count) if count > 1 else [None] * count


def declared(kind: str, value: Any, index: int | None = None) -> ImageSource:
    """The image that ``{"type": kind, "value": value}`` declares.

    Raises:
        InvalidImage: an unknown or refused type, or a value that is not a non-empty string.
    """
    kind = kind.lower()
    if (refusal := _REFUSED.get(kind)) is not None:
        raise InvalidImage(refusal, index)
    if kind not in ("base64", "url", "numpy"):
        raise InvalidImage(_UNKNOWN_TYPE, index)
    if isinstance(value, str) and value:
        if kind == "url":
            return UrlImage(value, index)
        return ArrayImage(value, index) if kind == "numpy" else Base64Image(value, index)
    if value == "":
        raise InvalidImage("Provided image URL is invalid" if kind == "url" else "Empty image payload.", index)
    raise InvalidImage(f"An image of type `{kind}` needs a string as its `value`.", index)


def undeclared(text: str, index: int | None = None) -> ImageSource:
    """The image that a bare string stands for: a URL if it says so, else base64. Never a path."""
    if not text:
        raise InvalidImage("Empty image payload.", index)
    return UrlImage(text, index) if "://" in text[:16] else Base64Image(text, index)


def decode_base64(text: str) -> bytes:
    """Bytes of a base64 text; a data URI's head, white space, the URL-safe alphabet and missing padding are understood.

    Raises:
        InvalidImage: nothing in it, or no whole number of bytes.
    """
    if not text.isascii():
        raise InvalidImage("Malformed base64 input image.")
    if text[:5].lower() == "data:" or text[:1].isspace():
        head = _DATA_URI.match(text)
        text = text[head.end() :] if head else text
    try:
        # The common case, and the fast one: plain base64, padded. The text is not copied for it.
        decoded = pybase64.b64decode(text, validate=True)
    except binascii.Error:
        data = _OUTSIDE_ALPHABET.sub(b"", text.encode("ascii").translate(_URL_SAFE))
        try:
            decoded = base64.b64decode(data + b"=" * (-len(data) % 4))
        except binascii.Error:
            raise InvalidImage("Malformed base64 input image.") from None
    if not decoded:
        raise InvalidImage("Empty image payload.")
    return decoded
