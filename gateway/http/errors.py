"""Errors to answers: one table of statuses, and the bodies that each kind of client expects.

Roboflow's clients know three shapes: ``{"message": ...}`` for what a handler raises, ``{"detail": [...]}`` for a body
that does not validate, ``{"detail": ...}`` for what the framework refuses. OpenAI's, which use ``/v1/``, know one.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from gateway import errors
from gateway.http.json import json_response

STATUS: Final[dict[type[errors.GatewayError], int]] = {
    errors.InvalidInput: 400,
    errors.UnknownVariant: 404,
    errors.PayloadTooLarge: 413,
    errors.Overloaded: 429,
    errors.EncoderFault: 502,
    errors.EncoderUnavailable: 503,
    errors.DeadlineExceeded: 504,
}
# Seconds after which another try makes sense, for the errors that pass by themselves.
RETRY_AFTER: Final[dict[type[errors.GatewayError], int]] = {errors.Overloaded: 1, errors.EncoderUnavailable: 1}

_OPENAI_PATH: Final = "/v1/"
_ECHOED_CHARACTERS: Final = 64
_NOT_FOUND: Final = "Not Found. This server serves Perception Encoder; /docs lists what it answers."


def error_response(error: errors.GatewayError, path: str) -> Response:
    """The answer to an error of the tree, found by its nearest ancestor in the table."""
    kind = next(kind for kind in type(error).__mro__ if kind in STATUS)
    headers = {"Retry-After": str(RETRY_AFTER[kind])} if kind in RETRY_AFTER else None
    index = error.index if isinstance(error, errors.InvalidImage) else None
    if path.startswith(_OPENAI_PATH):
        param = None if index is None else f"input[{index}]"
        code = "model_not_found" if kind is errors.UnknownVariant else None
        return _openai(STATUS[kind], str(error), param, code, headers)
    body: dict[str, Any] = {"message": str(error)}
    if index is not None:
        body["index"] = index
    return json_response(body, STATUS[kind], headers)


def internal_error(path: str) -> Response:
    """The one answer to what nobody foresaw; the log has the rest."""
    if path.startswith(_OPENAI_PATH):
        return _openai(500, "Internal error.")
    return json_response({"message": "Internal error."}, 500)


def answer_to(request: Request, error: Exception) -> Response | None:
    """The answer to what a route may raise; None to what nobody foresaw."""
    path: str = request.scope["path"]
    match error:
        case errors.GatewayError():
            return error_response(error, path)
        case RequestValidationError():
            return _validation(error, path)
        case HTTPException():
            return _framework(error, path)
        case _:
            return None


def install(app: FastAPI) -> None:
    """Makes the app answer with these."""

    async def handler(request: Request, error: Exception) -> Response:
        answer = answer_to(request, error)
        assert answer is not None
        return answer

    for kind in (errors.GatewayError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, handler)


def _validation(error: RequestValidationError, path: str) -> Response:
    entries = [_validation_entry(entry) for entry in error.errors()]
    if path.startswith(_OPENAI_PATH):
        first = entries[0]
        param = ".".join(map(str, first["loc"][1:])) or None
        return _openai(400, f"{first['msg']}: {param or 'body'}", param)
    return json_response({"detail": entries}, 422)


def _framework(error: HTTPException, path: str) -> Response:
    detail = _NOT_FOUND if error.status_code == 404 else error.detail
    if path.startswith(_OPENAI_PATH):
        return _openai(error.status_code, detail, headers=error.headers)
    return json_response({"detail": detail}, error.status_code, error.headers)


def _validation_entry(error: Mapping[str, Any]) -> dict[str, Any]:
    """One entry of a 422: pydantic's, with its ``input`` only where that is short. Payloads are never echoed."""
    entry = {"type": error["type"], "loc": _short(error["loc"]), "msg": error["msg"]}
    if "input" in error:
        value = error["input"]
        text = isinstance(value, str) and len(value) < _ECHOED_CHARACTERS
        if text or value is None or isinstance(value, bool | int | float):
            entry["input"] = value
    if error.get("ctx"):
        entry["ctx"] = {key: str(cause) for key, cause in error["ctx"].items()}
    return entry


def _short(location: Sequence[str | int]) -> list[str | int]:
    """Keys of an object are the client's words too, and may be as long as it likes."""
    return [part if isinstance(part, int) else part[:256] for part in location]


def _openai(
    status: int,
    message: str,
    param: str | None = None,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """https://platform.openai.com/docs/guides/error-codes"""
    kind = "rate_limit_error" if status == 429 else "invalid_request_error" if status < 500 else "server_error"
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return json_response(body, status, headers)
