"""What routes are handed: the service, the request's stage timer, and the incumbent's query parameters."""

from typing import Annotated

from fastapi import Depends, Query, Request

from gateway.observe import Stages
from gateway.service import EmbeddingService


def _service(request: Request) -> EmbeddingService:
    service: EmbeddingService = request.app.state.service
    return service


def _stages(request: Request) -> Stages:
    stages: Stages = request.state.stages
    return stages


def _incumbents_query(
    api_key: Annotated[str | None, Query(description="Ignored.")] = None,
    countinference: Annotated[bool | None, Query(description="Ignored.")] = None,
    service_secret: Annotated[str | None, Query(description="Ignored.")] = None,
) -> None:
    """Taken, and validated, since the incumbent's clients may send them."""


Service = Annotated[EmbeddingService, Depends(_service)]
RequestStages = Annotated[Stages, Depends(_stages)]
IncumbentsQuery = Depends(_incumbents_query)
