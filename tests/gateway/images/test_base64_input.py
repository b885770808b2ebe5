import base64
from typing import Final

import pytest

from gateway.errors import InvalidImage
from gateway.images.base64_input import decode_base64

DATA: Final = bytes(range(256))
PLAIN: Final = base64.b64encode(DATA).decode()


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.rstrip("="),
        base64.urlsafe_b64encode(DATA).decode(),
        base64.urlsafe_b64encode(DATA).decode().rstrip("="),
        base64.encodebytes(DATA).decode(),  # lines of 76
        "data:image/jpeg;base64," + PLAIN,
        "data:image/JPEG;base64," + PLAIN,
        "DATA:image/svg+xml;charset=utf-8;BASE64," + PLAIN,
        "data:;base64," + PLAIN,
        "  data:application/octet-stream;base64,\n" + PLAIN,
        PLAIN[:10] + " !\n" + PLAIN[10:],
    ],
)
def test_base64_variants_are_accepted(text: str) -> None:
    assert decode_base64(text.encode()) == DATA


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("=", "Empty image payload."),
        ("!!!", "Empty image payload."),
        ("data:image/png;base64,", "Empty image payload."),
        ("A", "Malformed base64 input image."),
        ("AAAAA", "Malformed base64 input image."),
        ("é" + PLAIN, "Malformed base64 input image."),
    ],
)
def test_invalid_base64_is_refused(text: str, cause: str) -> None:
    with pytest.raises(InvalidImage) as raised:
        decode_base64(text.encode())
    assert raised.value.cause == cause
