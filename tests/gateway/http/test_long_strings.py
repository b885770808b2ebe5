"""Long strings leave a JSON document, whatever they contain and wherever the pieces of the body end."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import InvalidInput, PayloadTooLarge
from gateway.http.long_strings import LongStrings, Splitter
from gateway.images.base64_input import unescaped
from gateway.json_string import EscapedString

CHARACTERS = st.sampled_from(["a", "é", "😀", '"', "\\", "/", "\n", "\u0001", "\ud800", " ", "{", "]", ","])
# From a short one to one of several thousand bytes.
STRINGS = st.builds(lambda text, times: text * times, st.text(CHARACTERS, max_size=9), st.sampled_from([1, 7, 700]))
VALUES = st.recursive(
    st.none() | st.integers() | STRINGS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(STRINGS, inner, max_size=4),
)


def split(document: bytes, size: int, max_rest: int = 2**20, large: int = 2**20) -> tuple[bytes, LongStrings]:
    strings = LongStrings(max_characters=100_000)
    splitter = Splitter(strings, large, max_rest)
    for start in range(0, len(document), size):
        splitter.feed(document[start : start + size])
    return bytes(splitter.rest), strings


async def restored(value: Any, strings: LongStrings) -> Any:
    if isinstance(value, str):
        return (await strings.texts([value]))[0]
    if isinstance(value, list):
        return [await restored(item, strings) for item in value]
    if isinstance(value, dict):
        return {await restored(key, strings): await restored(item, strings) for key, item in value.items()}
    return value


@settings(max_examples=60)
@given(
    value=VALUES,
    ascii_only=st.booleans(),
    size=st.sampled_from([1, 2, 3, 100, 1500, 16_384]),
    large=st.sampled_from([0, 100, 2**20]),
)
async def test_a_document_is_the_same_without_and_with_them(
    value: Any, ascii_only: bool, size: int, large: int
) -> None:
    document = json.dumps(value, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    rest, strings = split(document, size, large=large)
    if b"\xed\xa0\x80" not in document:
        assert await restored(json.loads(rest), strings) == value
    assert len(rest) <= len(document)


def test_only_long_ones_leave() -> None:
    rest, _ = split(b'{"a":"' + b"x" * 1_000_000 + b'","b":"' + b"y" * 1000 + b'"}', 16_384)
    assert b"x" not in rest
    assert b"y" * 1000 in rest
    assert len(rest) < 1_200


def test_shorter_ones_leave_a_large_document() -> None:
    document = json.dumps(["x" * 1000] * 2000).encode()
    assert len(split(document, 16_384, large=2**19, max_rest=10**6)[0]) < 2**19 + 2000 * 100
    with pytest.raises(PayloadTooLarge):
        split(document, 16_384, max_rest=10**6)


@pytest.mark.parametrize("end", [b"", b"\\", b'\\"'])
def test_a_string_without_end_is_no_document(end: bytes) -> None:
    rest, _ = split(b'{"a":"' + b"x" * 5000 + end, 16_384)
    with pytest.raises(json.JSONDecodeError):
        json.loads(rest)


def test_the_rest_is_bounded() -> None:
    with pytest.raises(PayloadTooLarge, match="1000 bytes"):
        split(b"[" + b"[]," * 1000, 100, max_rest=1000)
    with pytest.raises(PayloadTooLarge, match="20000 strings"):
        split(b"[" + b'"",' * 30_000, 16_384)
    with pytest.raises(PayloadTooLarge, match="20000 strings"):
        split(b"[" + b'"\\n",' * 30_000, 16_384)


def test_escaped_quotes_begin_no_string() -> None:
    split(json.dumps(['"' * 30] * 2_000).encode(), 16_384)
    for end in ("\\", '\\"', "\\\\"):
        with pytest.raises(PayloadTooLarge, match="20000 strings"):
            split(json.dumps([end] * 20_001).encode(), 16_384)


async def test_texts_are_bounded_and_utf_8() -> None:
    rest, strings = split(json.dumps(["é" * 100_000, "x" * 1_200_001]).encode(), 16_384)
    accented, ascii_text = json.loads(rest)
    assert await strings.texts([accented, "short"]) == ["é" * 100_000, "short"]
    with pytest.raises(InvalidInput, match="at most 100000 characters"):
        await strings.texts([ascii_text])
    rest, strings = split(b'["' + b"\xff" * 5000 + b'"]', 16_384)
    with pytest.raises(InvalidInput, match="malformed"):
        await strings.texts(json.loads(rest))


async def test_payloads_are_not_decoded() -> None:
    rest, strings = split(json.dumps(["A" * 100_000, "B/" * 50_000, "https://a.b/" + "x" * 5000]).encode(), 16_384)
    plain, slashes, url = [await strings.payload(value) for value in json.loads(rest)]
    assert plain == bytearray(b"A" * 100_000)
    assert slashes == bytearray(b"B/" * 50_000)
    assert url == "https://a.b/" + "x" * 5000
    escaped = b'["data:image\\/png;base64,' + b"AB\\/+" * 50_000 + b'"]'
    rest, strings = split(escaped, 1000)
    (value,) = json.loads(rest)
    assert strings.start(value, 11) == "data:image/"
    payload = await strings.payload(value)
    assert isinstance(payload, EscapedString)
    assert unescaped(bytes(payload.content)) == b"data:image/png;base64," + b"AB/+" * 50_000


async def test_other_callbacks_run_before_a_string_is_decoded() -> None:
    """A thousand strings that may be URLs take 80 ms."""
    rest, strings = split(json.dumps(["https://a.b/" + "x" * 5000] * 2).encode(), 16_384)
    ran: list[int] = []
    for value in json.loads(rest):
        asyncio.get_running_loop().call_soon(ran.append, 1)
        before = len(ran)
        await strings.payload(value)
        assert len(ran) > before
