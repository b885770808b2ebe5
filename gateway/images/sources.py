"""Image sources: each way in which a client may send an image, converted from Roboflow's wire types."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pybase64
import regex

from gateway.errors import InvalidImage
from gateway.json_string import EscapedString, LongString

# Characters in which a data URI's prefix ends.
_MAX_HEAD: Final = 1024
_DATA_URI: Final = regex.compile(r"\s*data:[^,;]*(?:;[^,;]*)*?;base64,", regex.IGNORECASE)
_OUTSIDE_ALPHABET: Final = regex.compile(rb"[^A-Za-z0-9+/]+")
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An image file."""

    data: bytes | bytearray
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Base64Image:
    """An image file in base64, with or without a `data:` prefix."""

    text: str | LongString
    index: int | None = None


@dataclass(frozen=True, slots=True)
class UrlImage:
    """The URL of an image file, not fetched yet."""

    url: str
    index: int | None = None


@dataclass(frozen=True, slots=True)
class ArrayImage:
    """A numpy array in base64: pickled, as Roboflow's clients send it, or in `.npy` format. Channels are BGR."""

    text: str | LongString
    index: int | None = None


ImageSource = EncodedImage | Base64Image | UrlImage | ArrayImage
"""`index` is the position in the request's list, by which errors name the image. A single image has none."""

_UNKNOWN_TYPE: Final = "Image declaration contains not recognised image type."
# Types that Roboflow uses within one process. In JSON they have no meaning, or would read the server's disk.
_REFUSED: Final = {
    "file": "Loading images from local filesystem is disabled.",
    "multipart": "Images of type `multipart` cannot be sent as JSON.",
    "numpy_object": "Data provided as input could not be decoded into np.ndarray object.",
    "pil": "Images of type `pil` cannot be sent as JSON.",
}


def item_indices(count: int) -> Sequence[int | None]:
    """The `index` of each of `count` items of a request. A single item has none."""
    return range(count) if count > 1 else [None] * count


def declared(kind: str, value: Any, index: int | None = None) -> ImageSource:
    """Convert an image declared as `{"type": kind, "value": value}`.

    Raises:
        InvalidImage: the type is unknown or refused, or the value is not a string, is empty or, for a URL, too long.
    """
    kind = kind.lower()
    if (refusal := _REFUSED.get(kind)) is not None:
        raise InvalidImage(refusal, index)
    if kind not in ("base64", "url", "numpy"):
        raise InvalidImage(_UNKNOWN_TYPE, index)
    if not isinstance(value, str | LongString):
        raise InvalidImage(f"An image of type `{kind}` needs a string as its `value`.", index)
    if kind == "url":
        if not isinstance(value, str) or not value:
            raise InvalidImage("Provided image URL is invalid", index)
        return UrlImage(value, index)
    if value == "":
        raise InvalidImage("Empty image payload.", index)
    return ArrayImage(value, index) if kind == "numpy" else Base64Image(value, index)


def undeclared(text: str | LongString, index: int | None = None) -> ImageSource:
    """Convert an image sent as a bare string: a URL if it contains `://` near its start, otherwise base64.

    Raises:
        InvalidImage: the string is empty.
    """
    if not text:
        raise InvalidImage("Empty image payload.", index)
    if isinstance(text, str) and "://" in text[:16]:
        return UrlImage(text, index)
    return Base64Image(text, index)


def decode_base64(text: str | LongString) -> bytes:
    """Decode base64. Accepts a data URI's prefix, white space, the URL-safe alphabet, and missing padding.

    Raises:
        InvalidImage: the text is empty, or is not base64.
    """
    if isinstance(text, EscapedString):
        try:
            text = text.ascii()
        except ValueError:
            raise InvalidImage("Malformed base64 input image.") from None
    if not text.isascii():
        raise InvalidImage("Malformed base64 input image.")
    head = text[:_MAX_HEAD] if isinstance(text, str) else text[:_MAX_HEAD].decode("ascii")
    # A slice copies, so it is made only where there is a prefix.
    if (prefix := _DATA_URI.match(head)) is not None:
        text = text[prefix.end() :]
    try:
        # Padded base64 without other characters is the common case, and decodes without a copy of the text.
        decoded = pybase64.b64decode(text, validate=True)
    except binascii.Error:
        plain = text.encode("ascii") if isinstance(text, str) else text
        data = _OUTSIDE_ALPHABET.sub(b"", plain.translate(_URL_SAFE))
        try:
            decoded = base64.b64decode(data + b"=" * (-len(data) % 4))
        except binascii.Error:
            raise InvalidImage("Malformed base64 input image.") from None
    if not decoded:
        raise InvalidImage("Empty image payload.")
    return decoded
