"""Reading bodies, and parsing JSON to the same values as Python's own parser, which the incumbent uses."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from gateway.http.body import read_bytes
from gateway.http.decode_json import _loads as _parse


def request_of(*messages: Message) -> Request:
    remaining: Iterator[Message] = iter(messages)

    async def receive() -> Message:
        return next(remaining)

    return Request({"type": "http", "headers": []}, receive)


def part(body: bytes, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


@pytest.mark.parametrize("parts", [[b""], [b"abc"], [b"a", b"", b"bc"], [b"abc", b""]])
async def test_a_body_in_any_number_of_parts(parts: list[bytes]) -> None:
    messages = [part(data, more=i < len(parts) - 1) for i, data in enumerate(parts)]
    assert await read_bytes(request_of(*messages)) == b"".join(parts)


async def test_a_client_that_disconnects_before_the_end() -> None:
    with pytest.raises(ClientDisconnect):
        await read_bytes(request_of(part(b"a", more=True), {"type": "http.disconnect"}))


@pytest.mark.parametrize(
    "document",
    [
        b'{"a": 1, "a": 2}',
        b"[NaN, Infinity, -Infinity, 1e999, -0, 18446744073709551615]",
        b"1" + b"0" * 400,
        b'"\\ud800 \\ud83d\\ude00 \\u0000"',
        b'"\xed\xa0\x80"',
        b"\xef\xbb\xbf{}",
        '{"a": "é"}'.encode("utf-16"),
        b" [] \n",
    ],
)
def test_documents_on_which_parsers_differ(document: bytes) -> None:
    assert repr(_parse(document)) == repr(json.loads(document))


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text() | st.integers(-(2**63), 2**64 - 1), st.lists))
def test_any_document(value: Any) -> None:
    document = json.dumps(value).encode()
    assert repr(_parse(document)) == repr(json.loads(document))


@pytest.mark.parametrize("document", [b"", b"{", b'{"a":1,}', b"01", b'"\x01"', b"{}\x00", b"tru"])
def test_invalid_json(document: bytes) -> None:
    with pytest.raises(RequestValidationError) as caught:
        _parse(document)
    assert caught.value.errors()[0]["type"] == "json_invalid"


@pytest.mark.parametrize("document", [b"\xff", b"[" * 100_000, b"1" * 5_000])
def test_bodies_that_cannot_be_parsed(document: bytes) -> None:
    with pytest.raises(HTTPException):
        _parse(document)
