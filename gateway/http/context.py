"""What the routes and middlewares of one app have in common."""

from dataclasses import dataclass

from fastapi import FastAPI

from gateway.drain import Drain
from gateway.encoder import Encoder
from gateway.http.clients import Clients
from gateway.http.keys import ApiKeys
from gateway.in_flight import InFlightLimiter
from gateway.observe.metrics import Metrics
from gateway.service import EmbeddingService


@dataclass(frozen=True, slots=True)
class Context:
    """The parts of one app.

    Attributes:
        service: embeds and compares.
        encoder: knows the loaded variants and their readiness.
        metrics: the gateway's metrics.
        limiter: admission control.
        drain: the process's drain.
        keys: API-key authentication.
        clients: tells clients apart.
        max_images: images in one request.
        max_texts: texts in one request.
        max_text_characters: characters of one text.
        max_body_bytes: bytes of one request's body.
        deadline_seconds: seconds that one request may last.
        instance_id: identifies this process; new after each start.
        started_at: seconds since 1970.
    """

    service: EmbeddingService
    encoder: Encoder
    metrics: Metrics
    limiter: InFlightLimiter
    drain: Drain
    keys: ApiKeys
    clients: Clients
    max_images: int
    max_texts: int
    max_text_characters: int
    max_body_bytes: int
    deadline_seconds: float
    instance_id: str
    started_at: int


def attach(app: FastAPI, context: Context) -> None:
    """Make `context` the app's context."""
    app.state.context = context


def context_of(app: FastAPI) -> Context:
    """The app's context.

    Routes call this function. Resolving it through FastAPI's `Depends` costs as much CPU as a cached reply.
    """
    context: Context = app.state.context
    return context
