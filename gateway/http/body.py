"""A request's JSON body to a wire model, with the validation errors that FastAPI's own parsing would give.

Done by hand since the incumbent takes a body without a Content-Type as JSON, and since one route may take several media
types.
"""

import json
from typing import Any, Final, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request

_Wire = TypeVar("_Wire", bound=BaseModel)

_UNPARSABLE: Final = "There was an error parsing the body"


async def read_json(request: Request, wire: type[_Wire]) -> _Wire:
    """The request's body as a ``wire``.

    Raises:
        RequestValidationError: not JSON, or not such an object.
        HTTPException: 400, bytes that cannot even be read as text.
        PayloadTooLarge: from the middleware that counts what is read.
    """
    data = await request.body()
    value: Any = None
    if data:
        value = _parse(data) if _is_json(request.headers.get("content-type")) else data.decode("latin-1")
    try:
        # As FastAPI validates, for its error types: `model_attributes_type` where no object came.
        return wire.model_validate(value, from_attributes=True)
    except ValidationError as error:
        entries = [{**entry, "loc": ("body", *entry["loc"])} for entry in error.errors(include_url=False)]
        if value is None:
            entries = [{"type": "missing", "loc": ("body",), "msg": "Field required", "input": None}]
        raise RequestValidationError(entries) from None


def _is_json(content_type: str | None) -> bool:
    if content_type is None:
        return True
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json"))


def _parse(data: bytes) -> Any:
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
