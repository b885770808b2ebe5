"""Read a request's body by its media type: JSON as a wire model, or image files.

JSON is parsed here, with the validation errors of FastAPI's own parsing. FastAPI cannot do it: the incumbent reads a
body without a Content-Type as JSON, and one route accepts several media types.
"""

import json
from typing import Any, Final, TypeVar

import orjson
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from gateway.http.context import context_of
from gateway.http.headers import is_json
from gateway.http.record import record_of
from gateway.images.sources import EncodedImage, ImageSource, item_indices, undeclared
from gateway.in_flight import current_request

MULTIPART: Final = "multipart/form-data"

_UNPARSABLE: Final = "There was an error parsing the body"

_Wire = TypeVar("_Wire", bound=BaseModel)


async def read_bytes(request: Request) -> bytes:
    """Read the whole body. A body that arrives in one message is not copied.

    Raises:
        ClientDisconnect: the client disconnected before the end of the body.
        PayloadTooLarge, Overloaded: from the admission middleware, which counts the bytes.
    """
    chunks: list[bytes] = []
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunks.append(message.get("body", b""))
        more = message.get("more_body", False)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def read_json(request: Request, wire: type[_Wire]) -> _Wire:
    """Read the body as JSON, and authenticate the request if its key has to be in the body.

    Raises:
        Unauthorized: the key has to be in the body, and is missing or wrong. Only clients with a key learn what else
            is wrong with the body.
        RequestValidationError: the body is not JSON, or not an object of the form of `wire`.
        HTTPException: 400, the bytes cannot be read as text.
        ClientDisconnect, PayloadTooLarge: as for `read_bytes`.
        Overloaded: as for `read_bytes`, or the client that the key belongs to has its share already.
    """
    data = await read_bytes(request)
    record = record_of(request.scope)
    value: Any = None
    try:
        if data:
            value = _parse(data) if is_json(request.scope) else data.decode("latin-1")
    finally:
        if not record.authenticated:
            context = context_of(request.app)
            key = context.keys.check_body(value)
            record.authenticated = True
            if (client := context.clients.by_body(key)) is not None:
                current_request().identify(client)
    try:
        # `from_attributes` gives FastAPI's error types: `model_attributes_type` for a value that is not an object.
        return wire.model_validate(value, from_attributes=True)
    except ValidationError as error:
        entries = [{**entry, "loc": ("body", *entry["loc"])} for entry in error.errors(include_url=False)]
        if value is None:
            entries = [{"type": "missing", "loc": ("body",), "msg": "Field required", "input": None}]
        raise RequestValidationError(entries) from None


async def read_parts(request: Request, name: str) -> list[ImageSource]:
    """Read the images of a multipart form.

    Args:
        name: of the parts to read. A part is a file, or a text that is a URL or base64.

    Returns:
        The images, in the order of the parts.

    Raises:
        HTTPException: 400, the body is not such a form.
        InvalidImage: a part is empty.
    """
    async with request.form() as form:
        parts = form.getlist(name)
        return [
            EncodedImage(await part.read(), index) if isinstance(part, UploadFile) else undeclared(part, index)
            for part, index in zip(parts, item_indices(len(parts)), strict=True)
        ]


def _parse(data: bytes) -> Any:
    try:
        # orjson is ten times as fast as `json`. Both give the same values, except that orjson reads integers of more
        # than 64 bits as floats. No field of the wire models has a use for such integers.
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass  # orjson is stricter: NaN, lone surrogates and UTF-16 are JSON to Python, and so to the incumbent.
    try:
        return json.loads(data)
    except json.JSONDecodeError as error:
        entry = {
            "type": "json_invalid",
            "loc": ("body", error.pos),
            "msg": "JSON decode error",
            "input": {},
            "ctx": {"error": error.msg},
        }
        raise RequestValidationError([entry]) from None
    except (ValueError, RecursionError):  # Not UTF-8, a number of thousands of digits, or a thousand brackets.
        raise HTTPException(400, _UNPARSABLE) from None
