"""What is fuzzed: each target takes any bytes, and raises if the gateway does what it never may.

A request may be refused, but only by an error of `gateway/errors.py` with a status below 500 and a short response.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from fastapi import FastAPI
from starlette.types import Message

from gateway.errors import InvalidImage, InvalidInput, PayloadTooLarge
from gateway.http.app import create_app
from gateway.http.long_strings import LongStrings, Splitter
from gateway.images.base64_input import decode_base64, unescaped
from gateway.images.numpy_input import read_array
from gateway.images.url_policy import FetchPolicy, admit
from gateway.settings import Settings
from gateway.texts.tokenizer import Tokenizer
from tests.fakes import FakeEncoder, FakeFetch, RefusingDecoder
from tests.hostile_bodies import COMPARE, IMAGE, OPENAI, TEXT

MAX_ANSWER: Final = 64 * 2**10
_JSON: Final = b"application/json"
_PATHS: Final = (IMAGE, TEXT, COMPARE, OPENAI)


@cache
def _app(keys: str) -> FastAPI:
    return create_app(Settings.model_validate({"api_keys": keys}), FakeEncoder(), FakeFetch(), RefusingDecoder())


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def _post(
    path: str, body: bytes, headers: list[tuple[bytes, bytes]], query: bytes = b"", keys: str = "", piece: int = 2**18
) -> None:
    """Send a request, and check the response to it."""
    chunks = [body[start : start + piece] for start in range(0, len(body), piece)][::-1] or [b""]
    sent: list[Message] = []

    async def receive() -> Message:
        await asyncio.sleep(0 if chunks else 60)
        return {"type": "http.request", "body": chunks.pop(), "more_body": bool(chunks)}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {"type": "http", "http_version": "1.1", "method": "POST", "path": path}
    scope |= {"query_string": query, "headers": headers, "client": ("127.0.0.1", 1)}
    _loop().run_until_complete(_app(keys)(scope, receive, send))
    status, size = sent[0]["status"], sum(len(message.get("body", b"")) for message in sent)
    assert status < 500, status
    assert status < 400 or size <= MAX_ANSWER, size


def json_body(data: bytes) -> None:
    """A JSON body of each route, with the key in it or without keys. The first byte chooses."""
    choice = data[0] if data else 0
    _post(_PATHS[choice % 4], data[1:], [(b"content-type", _JSON)], keys="key" if choice & 4 else "")


def form(data: bytes) -> None:
    """A form, in pieces of any size."""
    piece = 1 + data[0] if data else 1
    _post(IMAGE, data[1:], [(b"content-type", b"multipart/form-data; boundary=X")], piece=piece)


def urlencoded(data: bytes) -> None:
    """A URL-encoded form, in pieces of any size, of each route that takes one."""
    piece = 1 + data[0] if data else 1
    path = _PATHS[piece % 3]
    _post(path, data[1:], [(b"content-type", b"application/x-www-form-urlencoded")], piece=piece)


def compressed(data: bytes) -> None:
    """A compressed body. The first byte is the size of its pieces, and chooses the coding."""
    piece = 1 + data[0] if data else 1
    coding = (b"gzip", b"deflate")[piece % 2]
    _post(TEXT, data[1:], [(b"content-type", _JSON), (b"content-encoding", coding)], piece=piece)


def head(data: bytes) -> None:
    """A query and headers, one on each line."""
    names = (b"content-type", b"authorization", b"accept", b"x-request-id", b"x-request-timeout", b"content-length",
             b"x-perception-encoder-version-id", b"origin", b"transfer-encoding", b"traceparent",
             b"content-encoding")  # fmt: skip
    query, *values = data.split(b"\n")
    # A client cannot send a head without these checks of the HTTP parser.
    headers = [(name, value.strip()) for name, value in zip(names, values, strict=False) if value.isascii()]
    _post(IMAGE, b"{}", headers, query=query, keys="key")


def base64(data: bytes) -> None:
    """An image in base64, plain and with the escapes of a JSON string."""
    with contextlib.suppress(InvalidImage):
        decode_base64(data)
    with contextlib.suppress(InvalidImage):
        decode_base64(unescaped(data))


def url(data: bytes) -> None:
    """An image's URL."""
    with contextlib.suppress(InvalidImage):
        admit(data.decode("utf-8", "surrogateescape"), FetchPolicy())


def array(data: bytes) -> None:
    """A pickled array or an `.npy` file."""
    with contextlib.suppress(InvalidImage):
        read_array(data, 10_000)


def text(data: bytes) -> None:
    """A text to tokenize."""
    tokens = Tokenizer(16).encode(data.decode("utf-8", "surrogatepass" if data.isascii() else "replace"))
    assert tokens.tokens[tokens.length - 1] == tokens.tokens.max()


def long_strings(data: bytes) -> None:
    """A document without its long strings is the same document. The first byte is the size of its pieces."""
    piece, document = 1 + (data[0] if data else 0), data[1:]
    if json.detect_encoding(document) != "utf-8":
        return
    strings = LongStrings(max_characters=10**6)
    splitter = Splitter(strings, large=2**10, max_rest=2**20)
    try:
        for start in range(0, len(document), piece):
            splitter.feed(document[start : start + piece])
        expected = json.loads(document)
    except (ValueError, RecursionError, PayloadTooLarge):
        return
    found = json.loads(splitter.rest)
    with contextlib.suppress(InvalidInput):
        assert repr(_restored(found, strings)) == repr(expected)


def _restored(value: Any, strings: LongStrings) -> Any:
    if isinstance(value, str):
        return _loop().run_until_complete(strings.texts([value]))[0]
    if isinstance(value, list):
        return [_restored(item, strings) for item in value]
    if isinstance(value, dict):
        return {_restored(key, strings): _restored(item, strings) for key, item in value.items()}
    return value


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    target.__name__: target
    for target in (json_body, form, urlencoded, compressed, head, base64, url, array, text, long_strings)
}
