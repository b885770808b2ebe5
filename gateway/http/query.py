"""Query parameters and headers beside the body, which FastAPI documents as dependencies."""

from typing import Annotated, Final

from fastapi import Depends, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError

_COUNTINFERENCE: Final = "countinference"
_VARIANT: Final = "perception_encoder_version_id"
_VARIANT_HEADER: Final = "x-perception-encoder-version-id"
_BOOL: Final = TypeAdapter(bool)


def check_incumbent_query(request: Request) -> None:
    """Validate the one query parameter of the incumbent's that can be wrong, although it has no effect.

    Raises:
        RequestValidationError: `countinference` is not a boolean.
    """
    # Parsing the query takes longer than this search, and almost no request has the parameter.
    if _COUNTINFERENCE.encode() not in request.scope["query_string"]:
        return
    value = request.query_params.get(_COUNTINFERENCE)
    if value is None:
        return
    try:
        _BOOL.validate_python(value)
    except ValidationError as error:
        entries = [{**entry, "loc": ("query", _COUNTINFERENCE)} for entry in error.errors(include_url=False)]
        raise RequestValidationError(entries) from None


def variant_beside_body(request: Request) -> str | None:
    """The variant by query or header, for bodies that are image files or forms. None if neither names one."""
    return request.query_params.get(_VARIANT) or request.headers.get(_VARIANT_HEADER)


async def _incumbent_query(
    api_key: Annotated[str | None, Query(description="A key, where the server asks for one.")] = None,
    countinference: Annotated[bool | None, Query(description="Ignored.")] = None,
    service_secret: Annotated[str | None, Query(description="Ignored.")] = None,
) -> None:
    """Document what `check_incumbent_query` and the check of API keys read."""


async def _variant_beside_body(
    perception_encoder_version_id: Annotated[
        str | None, Query(description="The variant, where the body is an image or a form and cannot say.")
    ] = None,
    x_perception_encoder_version_id: Annotated[str | None, Header(description="The same, as a header.")] = None,
) -> None:
    """Document what `variant_beside_body` reads."""


DOCUMENTED_INCUMBENT_QUERY: Final = Depends(_incumbent_query)
DOCUMENTED_VARIANT: Final = Depends(_variant_beside_body)
