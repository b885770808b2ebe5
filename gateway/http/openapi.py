"""What /openapi.json says of bodies that the routes read themselves, and of errors."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from gateway.http.body import MULTIPART

_REFERENCE = "#/components/schemas/{model}"
_FILE = {"type": "string", "format": "binary"}
_FORM = {
    "type": "object",
    "properties": {"image": {"type": "array", "items": _FILE}},
    "required": ["image"],
}


class ErrorMessage(BaseModel):
    message: str = Field(description="What went wrong, in a sentence.")
    index: int | None = Field(None, description="The image at fault, where a list was sent.")


class ValidationErrors(BaseModel):
    detail: list[dict[str, Any]] | str = Field(description="What does not fit where, as pydantic says it.")


ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorMessage, "description": "The request holds something that no request may hold."},
    404: {"model": ErrorMessage, "description": "No such model is loaded."},
    413: {"model": ErrorMessage, "description": "The body is larger than allowed."},
    422: {"model": ValidationErrors, "description": "The body is not of the expected form."},
    429: {"model": ErrorMessage, "description": "Too many requests in flight; see `Retry-After`."},
    502: {"model": ErrorMessage, "description": "Triton failed to answer."},
    503: {"model": ErrorMessage, "description": "No model is ready; see `Retry-After`."},
    504: {"model": ErrorMessage, "description": "The answer took too long."},
}


class OpenAIError(BaseModel):
    message: str
    type: str
    param: str | None = None
    code: str | None = None


class OpenAIErrorResponse(BaseModel):
    error: OpenAIError


OPENAI_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {**answer, "model": OpenAIErrorResponse} for status, answer in ERRORS.items() if status != 422
}

_bodies: list[type[BaseModel]] = []


def body(wire: type[BaseModel], *files: str, answers: str | None = None) -> dict[str, Any]:
    """A route's ``openapi_extra``: it takes this model as JSON, or files of these media types.

    Args:
        answers: a media type that the route can answer in beside JSON.
    """
    _bodies.append(wire)
    content: dict[str, Any] = {"application/json": {"schema": {"$ref": _REFERENCE.format(model=wire.__name__)}}}
    for media_type in files:
        content[media_type] = {"schema": _FORM if media_type == MULTIPART else _FILE}
    extra: dict[str, Any] = {"requestBody": {"required": True, "content": content}}
    if answers:
        extra["responses"] = {"200": {"content": {answers: {"schema": _FILE}}}}
    return extra


def install(app: FastAPI) -> None:
    """Adds those models' schemas to the app's own."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        _, definitions = models_json_schema([(wire, "validation") for wire in _bodies], ref_template=_REFERENCE)
        document.setdefault("components", {}).setdefault("schemas", {}).update(definitions["$defs"])
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation has it
