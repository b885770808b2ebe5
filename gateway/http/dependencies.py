"""What routes are handed: the service, the request's stage timer, and what FastAPI documents beside their bodies."""

from typing import Annotated, Final

from fastapi import Depends, Header, Query, Request

from gateway.http.exchange import exchange_of
from gateway.observe.stages import Stages
from gateway.service import EmbeddingService


def service_of(request: Request) -> EmbeddingService:
    """Called, not depended on: FastAPI's way to a value that is there already costs as much as a short answer."""
    service: EmbeddingService = request.app.state.service
    return service


def stages_of(request: Request) -> Stages:
    """The request's own."""
    return exchange_of(request.scope).stages


async def _incumbents_query(
    api_key: Annotated[str | None, Query(description="A key, where the server asks for one.")] = None,
    countinference: Annotated[bool | None, Query(description="Ignored.")] = None,
    service_secret: Annotated[str | None, Query(description="Ignored.")] = None,
) -> None:
    """Taken, and validated, since the incumbent's clients may send them. Async, or it would run in a thread."""


async def _variant_beside_the_body(
    perception_encoder_version_id: Annotated[
        str | None, Query(description="The variant, where the body is an image or a form and cannot say.")
    ] = None,
    x_perception_encoder_version_id: Annotated[str | None, Header(description="The same, as a header.")] = None,
) -> None:
    """For the documentation; the route reads them itself."""


# The one query parameter that can be wrong. A request with it is FastAPI's to judge; the others may go direct.
VALIDATED: Final = b"countinference"
IncumbentsQuery = Depends(_incumbents_query)
VariantBesideTheBody = Depends(_variant_beside_the_body)
