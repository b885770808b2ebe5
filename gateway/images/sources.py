"""Image sources: each way in which a client may send an image, converted from Roboflow's wire types."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.errors import InvalidImage
from gateway.json_string import LongString

MALFORMED_BASE64: Final = "Malformed base64 input image."


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
