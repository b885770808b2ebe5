import base64
import json
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidImage
from gateway.images.base64_input import decode_base64, unescaped

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
        "data: image/jpeg; base64," + PLAIN,
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


@given(st.text(st.characters(max_codepoint=0x7F)))
def test_escapes_of_json_are_decoded(text: str) -> None:
    for content in (json.dumps(text), json.dumps(text).replace("/", "\\/")):
        assert unescaped(content[1:-1].encode()) == text.encode()


@pytest.mark.parametrize(
    "content", [b"a\\", b"\\x", b"\\u00g0", b"\\u12", b'a"\\n', b"\\n\xff", b"\\n" + "é".encode(), b"\\u00e9"]
)
def test_invalid_escapes_are_refused(content: bytes) -> None:
    with pytest.raises(InvalidImage):
        unescaped(content)
