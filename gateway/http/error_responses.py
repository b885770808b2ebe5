"""Turn errors into HTTP responses: one table of statuses, and the bodies that each kind of client expects.

Roboflow's clients know three shapes: `{"message": ...}` for errors of handlers, `{"detail": [...]}` for bodies that do
not validate, and `{"detail": ...}` for errors of the framework. OpenAI's clients, which use `/v1/`, know one shape.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from gateway import errors
from gateway.http import content_encoding
from gateway.http.json_response import json_response
from gateway.http.record import record_of

STATUS: Final[dict[type[errors.GatewayError], int]] = {
    errors.InvalidInput: 400,
    errors.Unauthorized: 401,
    errors.UnknownVariant: 404,
    errors.PayloadTooLarge: 413,
    errors.UnsupportedEncoding: 415,
    errors.Overloaded: 429,
    errors.EncoderFault: 502,
    errors.EncoderUnavailable: 503,
    errors.Stopping: 503,
    errors.DeadlineExceeded: 504,
}
_RETRY_SOON: Final = {"Retry-After": "1"}
_HEADERS: Final[dict[type[errors.GatewayError], Mapping[str, str]]] = {
    errors.Unauthorized: {"WWW-Authenticate": "Bearer"},
    errors.UnsupportedEncoding: {"Accept-Encoding": ", ".join(content_encoding.ACCEPTED)},  # RFC 9110, 15.5.16
    errors.Overloaded: _RETRY_SOON,
    errors.EncoderUnavailable: _RETRY_SOON,
    errors.Stopping: _RETRY_SOON,
}
OPENAI_CODES: Final[dict[type[errors.GatewayError], str]] = {
    errors.UnknownVariant: "model_not_found",
    errors.Unauthorized: "invalid_api_key",
}

_OPENAI_PATH: Final = "/v1/"
_MAX_ECHOED_CHARACTERS: Final = 64
_MAX_KEY_CHARACTERS: Final = 256
# Values of a union have an entry for each of its types. A body with thousands of faults is wrong as a whole.
_MAX_ENTRIES: Final = 8
_MAX_CAUSE_CHARACTERS: Final = 256
_NOT_FOUND: Final = "Not Found. This server serves Perception Encoder; /docs lists what it answers."


def error_response(error: errors.GatewayError, scope: Scope) -> Response:
    """The response to an error of the gateway's tree. The nearest ancestor in the table gives the status."""
    path: str = scope["path"]
    record_of(scope).error = type(error).__name__
    kind = next(kind for kind in type(error).__mro__ if kind in STATUS)
    headers = _HEADERS.get(kind)
    index = error.index if isinstance(error, errors.InvalidImage) else None
    if path.startswith(_OPENAI_PATH):
        param = None if index is None else f"input[{index}]"
        return _openai(STATUS[kind], str(error), param, OPENAI_CODES.get(kind), headers)
    body: dict[str, Any] = {"message": str(error)}
    if kind is errors.Unauthorized:
        body = {"status": STATUS[kind], **body}  # The incumbent repeats only this status in the body.
    if index is not None:
        body["index"] = index
    return json_response(body, STATUS[kind], headers)


def internal_error(scope: Scope) -> Response:
    """The response to an unexpected exception. The log has the traceback, under the same request id."""
    record = record_of(scope)
    record.error = "Internal"
    message = f"Internal error. The server's log has it as request {record.request_id}."
    if scope["path"].startswith(_OPENAI_PATH):
        return _openai(500, message)
    return json_response({"message": message}, 500)


def answer_to(request: Request, error: Exception) -> Response | None:
    """The response to an error that a route may raise; None for an unexpected exception."""
    path: str = request.scope["path"]
    match error:
        case errors.GatewayError():
            return error_response(error, request.scope)
        case RequestValidationError():
            record_of(request.scope).error = "InvalidBody"
            return _validation(error, path)
        case HTTPException():
            record_of(request.scope).error = "Http"
            return _framework(error, path)
        case _:
            return None


def install(app: FastAPI) -> None:
    """Register these responses as the app's exception handlers."""

    async def handler(request: Request, error: Exception) -> Response:
        answer = answer_to(request, error)
        assert answer is not None
        return answer

    for kind in (errors.GatewayError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, handler)


def _validation(error: RequestValidationError, path: str) -> Response:
    entries = [_validation_entry(entry) for entry in error.errors()[:_MAX_ENTRIES]]
    if path.startswith(_OPENAI_PATH):
        first = entries[0]
        param = _param(first["loc"][1:])
        return _openai(400, f"{first['msg']}: {param or 'body'}", param)
    return json_response({"detail": entries}, 422)


def _param(location: Sequence[str | int]) -> str | None:
    """A location in OpenAI's form: `input[1]`."""
    if location and isinstance(location[0], int):  # a position in what is not JSON
        return None
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)[1:] or None


def _framework(error: HTTPException, path: str) -> Response:
    detail = _NOT_FOUND if error.status_code == 404 else error.detail
    if path.startswith(_OPENAI_PATH):
        return _openai(error.status_code, detail, headers=error.headers)
    return json_response({"detail": detail}, error.status_code, error.headers)


def _validation_entry(error: Mapping[str, Any]) -> dict[str, Any]:
    """One entry of a 422: pydantic's, with its `input` only if that is short. Payloads are never echoed."""
    entry = {"type": error["type"], "loc": _short(error["loc"]), "msg": error["msg"][:_MAX_CAUSE_CHARACTERS]}
    if "input" in error:
        value = error["input"]
        text = isinstance(value, str) and len(value) < _MAX_ECHOED_CHARACTERS
        if text or value is None or isinstance(value, bool | int | float):
            entry["input"] = value
    if error.get("ctx"):
        entry["ctx"] = {key: str(cause)[:_MAX_CAUSE_CHARACTERS] for key, cause in error["ctx"].items()}
    return entry


def _short(location: Sequence[str | int]) -> list[str | int]:
    """Cut long parts of a location, because keys of an object come from the client."""
    return [part if isinstance(part, int) else part[:_MAX_KEY_CHARACTERS] for part in location]


def _openai(
    status: int,
    message: str,
    param: str | None = None,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    return json_response(openai_error(status, message, param, code), status, headers)


def openai_error(status: int, message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """The body of an error of OpenAI's shape: https://platform.openai.com/docs/guides/error-codes"""
    kind = "rate_limit_error" if status == 429 else "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
