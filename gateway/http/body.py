"""Read a request's body while it arrives: as bytes, or as a JSON document without its long strings.

No step takes more than a few milliseconds of the event loop, whatever the body contains. JSON is parsed here and in
`decode_json.py`, with the validation errors of FastAPI's own parsing. FastAPI cannot do it: the incumbent reads a body
without a Content-Type as JSON, and one route accepts several media types.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Final, TypeVar

from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from gateway.http.context import context_of
from gateway.http.decode_json import WireStruct, decode_json, decode_key, not_json
from gateway.http.headers import is_json
from gateway.http.long_strings import MAX_QUOTES, MAX_SHORT_ONCE_LARGE, LongStrings, Splitter, quotes
from gateway.http.record import record_of
from gateway.in_flight import current_request

# The decoder takes 4 ms for a megabyte of empty lists. Beyond the first of these bounds, only strings of up to
# `MAX_SHORT_ONCE_LARGE` stay in the document, and each item may have two of them, its name and its value.
_MAX_DOCUMENT_BYTES: Final = 512 * 2**10
_MAX_DOCUMENT_BYTES_PER_ITEM: Final = 2 * (MAX_SHORT_ONCE_LARGE + 32)
# The pieces that a splitter or a form's parser takes at once.
PIECE_BYTES: Final = 16 * 2**10
# The start of a body that is not JSON is all that an error could repeat.
_MAX_UNREAD_BYTES: Final = 2**10

_Struct = TypeVar("_Struct", bound=WireStruct)


async def chunks(request: Request) -> AsyncIterator[bytes]:
    """The body in the pieces in which it arrives, of some hundred kilobytes at most.

    Raises:
        ClientDisconnect: the client disconnected before the end of the body.
        PayloadTooLarge, Overloaded: from the admission middleware, which counts the bytes.
    """
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        more = message.get("more_body", False)
        yield message.get("body", b"")


async def read_bytes(request: Request) -> bytes | bytearray:
    """Read the whole body. A body that arrives in one message is not copied. Raises the errors of `chunks`."""
    body: bytes | bytearray = b""
    async for chunk in chunks(request):
        if not body:
            body = chunk
        elif isinstance(body, bytes):
            body = bytearray(body) + chunk
        else:
            body += chunk
    return body


async def peek(request: Request, size: int) -> tuple[bytes, Request]:
    """Read the start of the body.

    Returns:
        `size` bytes or more, fewer only if the body has no more; and a request whose body is still whole.
    """
    held: deque[Message] = deque()
    start = b""
    more = True
    while more and len(start) < size:
        message = await request.receive()
        held.append(message)
        start += message.get("body", b"")[:size]
        more = message.get("more_body", False)

    async def receive() -> Message:
        return held.popleft() if held else await request.receive()

    return start, Request(request.scope, receive)


def authenticate(request: Request, key: str | None) -> None:
    """Authenticate a request by the key in its body, unless its head has one.

    Args:
        key: None if the body has none.

    Raises:
        Unauthorized: the key is missing or wrong.
        Overloaded: the client that the key belongs to has its share already.
    """
    record = record_of(request.scope)
    if record.authenticated:
        return
    context = context_of(request.app)
    digest = context.keys.check_body(key)
    record.authenticated = True
    if (client := context.clients.by_body(digest)) is not None:
        current_request().identify(client)


async def read_json(
    request: Request, wire: type[BaseModel] | None, struct: type[_Struct]
) -> tuple[_Struct, LongStrings]:
    """Read the body as JSON, and authenticate the request if its key has to be in the body.

    Args:
        wire: the model that words the errors, as for `decode_json`.
        struct: the fields that the endpoint uses.

    Returns:
        The fields, and the long strings that their placeholders stand for.

    Raises:
        Unauthorized: the key has to be in the body, and is missing or wrong. Only clients with a key learn what else
            is wrong with the body.
        InvalidInput: a list is too long, or the struct explains a misfit.
        PayloadTooLarge: too much of the document is not in long strings.
        RequestValidationError: the body is not JSON, or not an object of the form of `struct` and `wire`.
        HTTPException: 400, the bytes cannot be read as text.
        ClientDisconnect: as for `chunks`.
        Overloaded: as for `chunks`, or the client that the key belongs to has its share already.
    """
    context = context_of(request.app)
    strings = LongStrings(context.max_text_characters)
    if not is_json(request.scope):
        start = await _start(request)
        authenticate(request, None)
        raise not_json(start)
    max_items = max(context.max_images, context.max_texts)
    max_bytes = _MAX_DOCUMENT_BYTES + _MAX_DOCUMENT_BYTES_PER_ITEM * max_items
    document = await _read_document(request, strings, max_bytes)
    if not record_of(request.scope).authenticated:
        authenticate(request, decode_key(document))
        await asyncio.sleep(0)
    fields = decode_json(document, wire, struct, max_items)
    return fields, strings


async def _read_document(request: Request, strings: LongStrings, max_bytes: int) -> bytearray:
    """Read a JSON document, and set its long strings aside if it is large."""
    held = bytearray()
    splitter: Splitter | None = None
    async for chunk in chunks(request):
        if splitter is not None:
            await _split(splitter, chunk)
            continue
        held += chunk
        if len(held) > max_bytes:
            splitter = Splitter(strings, _MAX_DOCUMENT_BYTES, max_bytes)
            await _split(splitter, held)
    if splitter is None and quotes(held) <= MAX_QUOTES:
        return held
    if splitter is None:
        splitter = Splitter(strings, _MAX_DOCUMENT_BYTES, max_bytes)
        await _split(splitter, held)
    return splitter.rest


async def _split(splitter: Splitter, data: bytes | bytearray) -> None:
    for start in range(0, len(data), PIECE_BYTES):
        splitter.feed(data[start : start + PIECE_BYTES])
        await asyncio.sleep(0)


async def _start(request: Request) -> bytes:
    """Read the body, and return its start."""
    start = b""
    async for chunk in chunks(request):
        start += chunk[: _MAX_UNREAD_BYTES - len(start)]
    return start
