import base64
from typing import Any, Final

import pytest

from gateway.errors import InvalidImage
from gateway.images.sources import ArrayImage, Base64Image, ImageSource, UrlImage, declared, undeclared

DATA: Final = bytes(range(256))
PLAIN: Final = base64.b64encode(DATA).decode()


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("base64", PLAIN, Base64Image(PLAIN)),
        ("BASE64", PLAIN, Base64Image(PLAIN)),
        ("url", "https://example.com/a.png", UrlImage("https://example.com/a.png")),
        ("Url", "/etc/passwd", UrlImage("/etc/passwd")),  # never opened as a file; the fetcher refuses it as a URL
        ("numpy", PLAIN, ArrayImage(PLAIN)),
    ],
)
def test_declared(kind: str, value: str, expected: ImageSource) -> None:
    assert declared(kind, value) == expected


@pytest.mark.parametrize(
    ("kind", "value", "cause"),
    [
        ("", PLAIN, "Image declaration contains not recognised image type."),
        ("jpeg", PLAIN, "Image declaration contains not recognised image type."),
        ("file", "/etc/passwd", "Loading images from local filesystem is disabled."),
        ("FILE", "/etc/passwd", "Loading images from local filesystem is disabled."),
        ("pil", PLAIN, "Images of type `pil` cannot be sent as JSON."),
        ("multipart", PLAIN, "Images of type `multipart` cannot be sent as JSON."),
        ("numpy_object", PLAIN, "Data provided as input could not be decoded into np.ndarray object."),
        ("base64", "", "Empty image payload."),
        ("url", "", "Provided image URL is invalid"),
        ("base64", None, "An image of type `base64` needs a string as its `value`."),
        ("url", 7, "An image of type `url` needs a string as its `value`."),
        ("base64", ["a"], "An image of type `base64` needs a string as its `value`."),
        ("base64", {"a": 1}, "An image of type `base64` needs a string as its `value`."),
    ],
)
def test_declared_refuses(kind: str, value: Any, cause: str) -> None:
    with pytest.raises(InvalidImage) as raised:
        declared(kind, value)
    assert raised.value.cause == cause


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://example.com/a.png", UrlImage("https://example.com/a.png")),
        ("file:///etc/passwd", UrlImage("file:///etc/passwd")),
        (PLAIN, Base64Image(PLAIN)),
        ("/etc/passwd", Base64Image("/etc/passwd")),  # never opened as a file; decoded as base64 it is not an image
        ("data:image/png;base64," + PLAIN, Base64Image("data:image/png;base64," + PLAIN)),
    ],
)
def test_a_bare_string_is_a_url_or_base64(text: str, expected: ImageSource) -> None:
    assert undeclared(text) == expected
