"""Errors to answers: one table of statuses, and the bodies that Roboflow's clients expect.

Three shapes, as the incumbent has them: ``{"message": ...}`` for what a handler raises, ``{"detail": [...]}`` for a
body that does not validate, ``{"detail": ...}`` for what the framework refuses.
"""

from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
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

_ECHOED_CHARACTERS: Final = 64


def error_response(error: errors.GatewayError) -> Response:
    """The answer to an error of the tree, found by its nearest ancestor in the table."""
    kind = next(kind for kind in type(error).__mro__ if kind in STATUS)
    body: dict[str, Any] = {"message": str(error)}
    if isinstance(error, errors.InvalidImage) and error.index is not None:
        body["index"] = error.index
    headers = {"Retry-After": str(RETRY_AFTER[kind])} if kind in RETRY_AFTER else None
    return json_response(body, STATUS[kind], headers)


def internal_error() -> Response:
    """The one answer to what nobody foresaw; the log has the rest."""
    return json_response({"message": "Internal error."}, 500)


def validation_detail(error: dict[str, Any]) -> dict[str, Any]:
    """One entry of a 422: pydantic's, with its ``input`` only where that is short. Payloads are never echoed."""
    value = error.get("input")
    entry = {"type": error["type"], "loc": list(error["loc"]), "msg": error["msg"]}
    if (
        value is None
        or isinstance(value, bool | int | float)
        or (isinstance(value, str) and len(value) < _ECHOED_CHARACTERS)
    ):
        entry["input"] = value
    if error.get("ctx"):
        entry["ctx"] = {key: str(cause) for key, cause in error["ctx"].items()}
    return entry


def install(app: FastAPI) -> None:
    """Makes the app answer with these."""

    @app.exception_handler(errors.GatewayError)
    async def _gateway(_: Request, error: errors.GatewayError) -> Response:
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def _validation(_: Request, error: RequestValidationError) -> Response:
        return json_response({"detail": [validation_detail(entry) for entry in error.errors()]}, 422)
