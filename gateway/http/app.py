"""Assemble the web application: routes, middlewares and error responses around one service."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Final

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from gateway import process_memory
from gateway.drain import Drain
from gateway.encoder import Encoder
from gateway.http import classify, docs, error_responses, health, openai, openapi, page, roboflow
from gateway.http.admission import Admission
from gateway.http.clients import Clients
from gateway.http.context import Context, attach
from gateway.http.dispatch import Dispatch
from gateway.http.keys import ApiKeys
from gateway.http.keys_file import KeysFile
from gateway.http.middleware import Cors, Observe
from gateway.http.paths import Paths
from gateway.http.request_span import RequestSpan
from gateway.images.decoder import Decoder
from gateway.images.embedder import ImageEmbedder
from gateway.images.fetch import Fetch
from gateway.images.formats import ACCEPTED_TEXT
from gateway.in_flight import InFlightLimiter
from gateway.observe.metrics import Metrics
from gateway.observe.tracing import Tracing
from gateway.service import EmbeddingService
from gateway.settings import Settings
from gateway.texts.cache import TextCache
from gateway.texts.embedder import TextEmbedder

_DESCRIPTION: Final = (
    "Image and text embeddings by Meta's Perception Encoder, compatible with Roboflow Inference. "
    "Both are vectors of unit length in one space, so the dot product of two is their cosine similarity.\n\n"
    f"Images may be {ACCEPTED_TEXT.replace(' and ', ' or ')}; of an animation, the first frame is embedded. "
    "An image is sent as base64 or as a URL in JSON, as a file in a form, or as the body. "
    "`GET /info` lists the loaded variants and the limits of one request."
)
_TAGS: Final = [
    {
        "name": "Roboflow",
        "description": "The requests and answers of Roboflow Inference. `inference-sdk` works unchanged.",
    },
    {"name": "Zero-shot classification", "description": "This project's own endpoint."},
    {
        "name": "OpenAI",
        "description": "OpenAI's embeddings interface, for texts and images. Its clients take `/v1` as their base URL.",
    },
    {"name": "Operation", "description": "Health, information and metrics, for operators and orchestrators."},
]
_EXPOSED_HEADERS: Final = (
    "Server-Timing",
    "X-Request-Id",
    "X-Model-Id",
    "X-Embedding-Space",
    "X-Truncated",
    "Retry-After",
)


def create_app(
    settings: Settings,
    encoder: Encoder,
    fetch: Fetch,
    decoder: Decoder,
    registry: CollectorRegistry | None = None,
    tracing: Tracing | None = None,
) -> FastAPI:
    """Create an app that serves `encoder`.

    The app's lifespan opens and closes `encoder` and `decoder`, and closes `fetch` and `tracing`.

    Args:
        registry: the registry of the encoder's metrics; the gateway's own are added to it.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="tokenize")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        trimming = asyncio.create_task(process_memory.return_freed_memory())
        try:
            async with decoder, encoder:
                yield
        finally:
            trimming.cancel()
            await fetch.aclose()
            pool.shutdown(wait=False, cancel_futures=True)
            if tracing is not None:
                await asyncio.to_thread(tracing.close)

    app = FastAPI(
        title="Perception Encoder Server",
        version=health.gateway_version(),
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        lifespan=lifespan,
        # FastAPI's own telemetry is off, because gateway/observe/ measures the same.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        docs_url=None,  # FastAPI's own pages load files from other hosts.
        redoc_url=None,
        # A redirect would lead to whatever host the Host header names, and clients would send the body twice.
        redirect_slashes=False,
    )
    context = _create_context(settings, encoder, fetch, decoder, pool, registry)
    attach(app, context)
    # `include_router` would build these routes again, during the first request: 40 ms of CPU.
    for router in (roboflow.router, classify.router, openai.router, health.router):
        app.router.routes += router.routes
    docs.install(app, settings.playground)
    if settings.playground:
        page.install(app)
    error_responses.install(app)
    openapi.install(app, context.keys)
    # The middleware that is added last is the first to see a request.
    app.add_middleware(Dispatch, routes=app.router.routes)
    app.add_middleware(Admission, context=context)
    app.add_middleware(
        Cors,
        allow_origins=sorted(settings.allow_origins),
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=_EXPOSED_HEADERS,
    )
    if tracing is not None:
        app.add_middleware(RequestSpan, tracing=tracing)
    app.add_middleware(Observe, context=context)
    app.add_middleware(Paths, root_path=settings.root_path)
    return app


def _create_context(
    settings: Settings,
    encoder: Encoder,
    fetch: Fetch,
    decoder: Decoder,
    pool: Executor,
    registry: CollectorRegistry | None,
) -> Context:
    cache = TextCache(settings.text_cache_bytes)
    metrics = Metrics(cache, registry)
    limiter = InFlightLimiter(
        max_requests=settings.max_in_flight,
        max_bytes=settings.max_bytes_in_flight,
        max_fetches=settings.max_fetches,
        fair=settings.client_identity != "none",
    )
    limiter.on_change = lambda: metrics.set_in_flight(limiter)
    keys = ApiKeys(
        (key.get_secret_value() for key in settings.api_keys),
        settings.metrics_open,
        KeysFile(settings.api_keys_file) if settings.api_keys_file else None,
    )
    images = ImageEmbedder(encoder, fetch, decoder, settings.allow_numpy_input)
    texts = TextEmbedder(encoder, cache, pool, settings.max_text_characters)
    return Context(
        service=EmbeddingService(
            encoder,
            images,
            texts,
            max_images=settings.max_items,
            max_texts=settings.text_limit,
            default_variant=settings.default_variant,
        ),
        encoder=encoder,
        metrics=metrics,
        limiter=limiter,
        drain=Drain(limiter, settings.drain_seconds, settings.deadline_seconds),
        keys=keys,
        clients=Clients(settings.client_identity, keys),
        max_images=settings.max_items,
        max_texts=settings.text_limit,
        max_text_characters=settings.max_text_characters,
        max_body_bytes=settings.max_body_bytes,
        deadline_seconds=settings.deadline_seconds,
        instance_id=secrets.token_hex(3),
        started_at=int(time.time()),
    )
