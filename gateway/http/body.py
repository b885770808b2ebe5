"""A request's body, by its media type: JSON to a wire model, or image files as they are.

JSON is read by hand, with the validation errors that FastAPI's own parsing would give: the incumbent takes a body
without a Content-Type as JSON, and one route takes several media types.
"""

import json
from typing import Any, Final, TypeVar

import orjson
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Scope

from gateway.http.exchange import exchange_of, header
from gateway.images.sources import EncodedImage, ImageSource, undeclared

MULTIPART: Final = "multipart/form-data"

_UNPARSABLE: Final = "There was an error parsing the body"

_Wire = TypeVar("_Wire", bound=BaseModel)


def media_type(scope: Scope) -> str:
    """The Content-Type without its parameters, in lower case; "" if there is none."""
    return header(scope, b"content-type").partition(";")[0].strip().lower()


def is_json(scope: Scope) -> bool:
    """Whether the body says that it is JSON, or says nothing, which the incumbent takes for the same."""
    kind = media_type(scope)
    return kind in ("", "application/json") or (kind.startswith("application/") and kind.endswith("+json"))


async def read_bytes(request: Request) -> bytes:
    """The whole body, as it came where it came at once.

    Raises:
        ClientDisconnect: the client left before its end.
        PayloadTooLarge: from the middleware that counts what is read.
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
    """The request's body as a ``wire``.

    Raises:
        RequestValidationError: not JSON, or not such an object.
        HTTPException: 400, bytes that cannot even be read as text.
        ClientDisconnect, PayloadTooLarge, Overloaded: as the bytes were read.
        Unauthorized: a key was to be in it, and is not.
    """
    data = await read_bytes(request)
    awaits_key = exchange_of(request.scope).awaits_key
    value: Any = None
    try:
        if data:
            value = _parse(data) if is_json(request.scope) else data.decode("latin-1")
    finally:
        if awaits_key is not None:  # and what is wrong with a body is told to those only who have one
            awaits_key(value)
    try:
        # As FastAPI validates, for its error types: `model_attributes_type` where no object came.
        return wire.model_validate(value, from_attributes=True)
    except ValidationError as error:
        entries = [{**entry, "loc": ("body", *entry["loc"])} for entry in error.errors(include_url=False)]
        if value is None:
            entries = [{"type": "missing", "loc": ("body",), "msg": "Field required", "input": None}]
        raise RequestValidationError(entries) from None


async def read_parts(request: Request, name: str) -> list[ImageSource]:
    """The parts of a form that have this name, in order: files, or texts that are URLs or base64.

    Raises:
        HTTPException: 400, no such form.
    """
    async with request.form() as form:
        return [
            EncodedImage(await part.read()) if isinstance(part, UploadFile) else undeclared(part)
            for part in form.getlist(name)
        ]


def _parse(data: bytes) -> Any:
    try:
        # Ten times as fast, and what it can read it reads as the other does, but for integers beyond 64 bits, which
        # become floats, and for which no field has a use.
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass  # it is stricter: NaN, lone surrogates and UTF-16 are JSON to Python, and so to the incumbent
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
    except (ValueError, RecursionError):  # not UTF-8, a number of thousands of digits, a thousand brackets
        raise HTTPException(400, _UNPARSABLE) from None
