"""What /openapi.json says of bodies that the routes read themselves, and of errors."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

_REFERENCE = "#/components/schemas/{model}"


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

_bodies: list[type[BaseModel]] = []


def json_body(wire: type[BaseModel]) -> dict[str, Any]:
    """A route's ``openapi_extra``: it takes this model as JSON."""
    _bodies.append(wire)
    schema = {"$ref": _REFERENCE.format(model=wire.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def install(app: FastAPI) -> None:
    """Adds those models' schemas to the app's own."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        _, definitions = models_json_schema([(wire, "validation") for wire in _bodies], ref_template=_REFERENCE)
        document.setdefault("components", {}).setdefault("schemas", {}).update(definitions["$defs"])
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation has it
