"""Complete /openapi.json: bodies that the routes read themselves, and errors."""

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from fastapi import FastAPI
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from gateway.http.error_responses import OPENAI_CODES, STATUS, openai_error
from gateway.http.keys import ApiKeys

_REFERENCE: Final = "#/components/schemas/{model}"
FILE: Final = {"type": "string", "format": "binary"}
FILES: Final = {"type": "array", "items": FILE}
STRINGS: Final = {"type": "array", "items": {"type": "string"}}


# A PNG file of a red circle, 24 x 24 pixels.
PICTURE: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAABgAAAAYAQMAAADaua+7AAAABlBMVEX////cHh7/Hx2WAAAAOElEQVR42mXMsQ2AMBAEwdGZgJASqNS14U5cAiEB0pOblSZd1jpK"
    "mivI5szuCH4ed14zoDQ11tsHZXMJG8EbxRYAAAAASUVORK5CYII="
)


_API_KEY: Final = {
    "type": "http",
    "scheme": "bearer",
    "description": "One of this server's keys. It is also read from the query or the body, as `api_key`.",
}


class ErrorMessage(BaseModel):
    """An error as Roboflow's clients show it."""

    message: str = Field(description="What went wrong, in a sentence.")
    index: int | None = Field(None, description="The image at fault, where a list was sent.")


class Detail(BaseModel):
    """An error of the framework."""

    detail: str = Field(description="What went wrong, in a sentence.")


class Refusal(BaseModel):
    """The incumbent's error for a missing or wrong key."""

    status: int = Field(401, description="Always this.")
    message: str = Field(description="What went wrong.")


class Misfit(BaseModel):
    """One validation error."""

    type: str = Field(description="Pydantic's name of the error.")
    loc: list[str | int] = Field(description="Location: `body` or `query`, then keys and indices.")
    msg: str = Field(description="The error in words.")
    input: Any = Field(None, description="The value, if it is short.")
    ctx: dict[str, str] | None = Field(None, description="Details of the error.")


class ValidationErrors(BaseModel):
    """Validation errors of a request. Payloads are not echoed."""

    detail: list[Misfit] | str = Field(description="The validation errors.")


def _error(model: Any, description: str, example: dict[str, Any]) -> dict[str, Any]:
    return {"model": model, "description": description, "content": {"application/json": {"example": example}}}


_UNREADABLE: Final = {"message": "Could not load input image. Cause: Data is not image.", "index": 1}
_INVALID: Final = {"type": "missing", "loc": ["body", "text"], "msg": "Field required"}
_DESCRIPTIONS: Final = {
    400: "The request has an invalid value.",
    401: "The API key is missing or wrong.",
    404: "The model is not loaded.",
    413: "The body is larger than allowed.",
    415: "The body is compressed by another method than gzip and deflate; see `Accept-Encoding`.",
    422: "The body is not of the expected form.",
    429: "Too many requests, bytes or fetches in flight, of all clients or of this one; see `Retry-After`.",
    500: "An unexpected error; the log has the traceback.",
    502: "Triton failed.",
    503: "No model is ready; see `Retry-After`.",
    504: "The request lasted longer than its deadline.",
}
_MESSAGES: Final = {
    401: "Unauthorized api_key",
    404: "Model 'PE-Core-G14-448' is not loaded here. Loaded: PE-Core-L14-336.",
    413: "The request's body is larger than the 67108864 bytes allowed.",
    415: "Bodies with `Content-Encoding: br` are not read. Send gzip, deflate, or the body as it is.",
    429: "The server is busy. Try again in a moment.",
    500: "Internal error. The server's log has it as request 9ecaac250ceed38cfbd67b8adb868dda.",
    502: "Triton failed.",
    503: "Triton cannot be reached.",
    504: "The request took longer than 30 seconds.",
}

ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    400: _error(ErrorMessage | Detail, _DESCRIPTIONS[400], _UNREADABLE),
    401: _error(Refusal, _DESCRIPTIONS[401], {"status": 401, "message": _MESSAGES[401]}),
    422: _error(ValidationErrors, _DESCRIPTIONS[422], {"detail": [_INVALID]}),
    **{
        status: _error(ErrorMessage, _DESCRIPTIONS[status], {"message": message})
        for status, message in _MESSAGES.items()
        if status != 401
    },
}
NOT_ACCEPTABLE: Final[dict[int | str, dict[str, Any]]] = {
    406: _error(
        Detail,
        "The client accepts only array files.",
        {"detail": "application/x-npy is for embeddings; this route answers in application/json."},
    )
}


class OpenAIError(BaseModel):
    """An error as in https://platform.openai.com/docs/guides/error-codes."""

    message: str = Field(description="What went wrong, in a sentence.")
    type: str = Field(description="`invalid_request_error`, `rate_limit_error` or `server_error`.")
    param: str | None = Field(None, description="The field at fault, such as `input[1]`.")
    code: str | None = Field(None, description="`model_not_found`, `invalid_api_key` or null.")


class OpenAIErrorResponse(BaseModel):
    """An error as OpenAI's clients raise it."""

    error: OpenAIError = Field(description="What went wrong.")


def _openai_error(status: int) -> dict[str, Any]:
    code = next((code for kind, code in OPENAI_CODES.items() if STATUS[kind] == status), None)
    example = openai_error(status, _MESSAGES.get(status, "The input is empty."), code=code)
    return _error(OpenAIErrorResponse, _DESCRIPTIONS[status], example)


OPENAI_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    status: _openai_error(status) for status in _DESCRIPTIONS if status != 422
}

_bodies: list[type[BaseModel]] = []


def body(
    wire: type[BaseModel],
    *files: str,
    forms: Mapping[str, Mapping[str, Any]] | None = None,
    examples: Mapping[str, Any],
    answers: str | None = None,
) -> dict[str, Any]:
    """Document a route's body, as its `openapi_extra`.

    Args:
        wire: the model of a JSON body.
        files: media types of bodies that are files.
        forms: media types of forms, and the schemas of their parts that are not plain strings.
        examples: JSON bodies by their summaries. Tests send them.
        answers: a media type of the response beside JSON.
    """
    _bodies.append(wire)
    shown = {summary: {"summary": summary, "value": value} for summary, value in examples.items()}
    schema = {"$ref": _REFERENCE.format(model=wire.__name__)}
    content: dict[str, Any] = {"application/json": {"schema": schema, "examples": shown}}
    for media_type in files:
        content[media_type] = {"schema": FILE}
    for media_type, parts in (forms or {}).items():
        content[media_type] = {"schema": _form(wire, parts)}
    extra: dict[str, Any] = {"requestBody": {"required": True, "content": content}}
    if answers:
        extra["responses"] = {"200": {"content": {answers: {"schema": FILE}}}}
    return extra


def _form(wire: type[BaseModel], parts: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a form: the fields of the JSON body, as strings or as `parts` says."""
    fields = wire.model_fields
    return {
        "type": "object",
        "properties": {
            name: {"description": field.description, **parts.get(name, {"type": "string"})}
            for name, field in fields.items()
        },
        "required": [name for name, field in fields.items() if field.is_required()],
    }


def install(app: FastAPI, keys: ApiKeys) -> None:
    """Add to the app's OpenAPI document: the schemas of the bodies, and what needs a key of this server."""
    generate = app.openapi

    @cache  # Generating the document takes 10 ms of the event loop.
    def openapi() -> dict[str, Any]:
        document = generate()
        _, definitions = models_json_schema([(wire, "validation") for wire in _bodies], ref_template=_REFERENCE)
        components = document.setdefault("components", {})
        # FastAPI documents a 422 for every route with a parameter. /v1/ answers with a 400 instead.
        document["paths"]["/v1/models/{model}"]["get"]["responses"].pop("422", None)
        for unused in ("HTTPValidationError", "ValidationError"):
            components["schemas"].pop(unused, None)
        components.setdefault("schemas", {}).update(definitions["$defs"])
        if keys.configured:
            components["securitySchemes"] = {"ApiKey": _API_KEY}
            for path, methods in document["paths"].items():
                for method, operation in methods.items():
                    if not keys.is_open(method.upper(), path):
                        operation["security"] = [{"ApiKey": []}]
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # as in FastAPI's documentation
