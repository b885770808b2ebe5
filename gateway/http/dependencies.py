"""What routes are handed: the service, the request's stage timer, and the incumbent's query parameters."""

from typing import Annotated

from fastapi import Depends, Query, Request

from gateway.observe import Stages
from gateway.service import EmbeddingService


def service_of(request: Request) -> EmbeddingService:
    """Called, not depended on: FastAPI's way to a value that is there already costs as much as a short answer."""
    service: EmbeddingService = request.app.state.service
    return service


def stages_of(request: Request) -> Stages:
    """The request's own, which ``Observe`` made."""
    stages: Stages = request.state.stages
    return stages


async def _incumbents_query(
    api_key: Annotated[str | None, Query(description="Ignored.")] = None,
    countinference: Annotated[bool | None, Query(description="Ignored.")] = None,
    service_secret: Annotated[str | None, Query(description="Ignored.")] = None,
) -> None:
    """Taken, and validated, since the incumbent's clients may send them. Async, or it would run in a thread."""


IncumbentsQuery = Depends(_incumbents_query)
