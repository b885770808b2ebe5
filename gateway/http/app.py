"""The web application: routes, middleware and error answers around one service."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from gateway.drain import Drain
from gateway.encoder import Encoder
from gateway.http import docs, errors, health, openai, openapi, page, roboflow
from gateway.http.admission import Admission
from gateway.http.direct import Direct
from gateway.http.keys import ApiKeys
from gateway.http.middleware import Cors, Observe, Prefix
from gateway.http.trace import Trace
from gateway.images.embedder import ImageEmbedder
from gateway.images.fetch import Fetch
from gateway.in_flight import InFlight
from gateway.observe.metrics import Metrics
from gateway.observe.tracing import Tracing
from gateway.service import EmbeddingService
from gateway.settings import Settings
from gateway.texts.cache import TextCache
from gateway.texts.embedder import TextEmbedder

_DESCRIPTION = "Image and text embeddings by Meta's Perception Encoder, compatible with Roboflow Inference."


def create_app(
    settings: Settings,
    encoder: Encoder,
    fetch: Fetch,
    registry: CollectorRegistry | None = None,
    tracing: Tracing | None = None,
) -> FastAPI:
    """An app that serves ``encoder``. Opens it, and closes it, ``fetch`` and ``tracing``, with its own lifespan.

    Args:
        registry: where the encoder has its metrics.
    """
    pool = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="decode")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            async with encoder:
                yield
        finally:
            await fetch.aclose()
            pool.shutdown(wait=False, cancel_futures=True)
            if tracing is not None:
                await asyncio.to_thread(tracing.close)

    app = FastAPI(
        title="Perception Encoder Server",
        version=health.gateway_version(),
        description=_DESCRIPTION,
        lifespan=lifespan,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # FastAPI's own; ours are in observe.py
        docs_url=None,  # ours load nothing from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # they would lead to wherever a Host header says, with the body sent twice
    )
    cache = TextCache(settings.text_cache_bytes)
    metrics = Metrics(cache, registry)
    in_flight = InFlight(settings.max_in_flight, settings.max_bytes_in_flight)
    drain = Drain(in_flight, settings.drain_seconds, settings.deadline_seconds)
    images = ImageEmbedder(encoder, fetch, pool, in_flight, settings.max_image_pixels, settings.allow_numpy_input)
    texts = TextEmbedder(encoder, cache, pool, settings.max_text_characters)
    app.state.encoder = encoder
    app.state.started = int(time.time())
    app.state.drain = drain
    app.state.metrics = metrics
    app.state.limits = {"max_items": settings.max_items, "max_body_bytes": settings.max_body_bytes}
    app.state.instance = secrets.token_hex(3)
    app.state.service = EmbeddingService(encoder, images, texts, settings.max_items, settings.default_variant)
    app.include_router(roboflow.router)
    app.include_router(openai.router)
    app.include_router(health.router)
    docs.install(app)
    if settings.playground:
        page.install(app)
    errors.install(app)
    openapi.install(app)
    # The last one added is the first to see a request.
    app.add_middleware(Direct, routes=[*roboflow.router.routes, *openai.router.routes])
    app.add_middleware(
        Admission,
        in_flight=in_flight,
        drain=drain,
        keys=ApiKeys((key.get_secret_value() for key in settings.api_keys), settings.metrics_open),
        metrics=metrics,
        max_body_bytes=settings.max_body_bytes,
        deadline_seconds=settings.deadline_seconds,
    )
    app.add_middleware(
        Cors,
        allow_origins=sorted(settings.allow_origins),
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=["Server-Timing", "X-Request-Id", "X-Model-Id", "X-Truncated", "Retry-After"],
    )
    if tracing is not None:
        app.add_middleware(Trace, tracing=tracing)
    app.add_middleware(Observe, metrics=metrics, drain=drain)
    if settings.root_path:
        app.add_middleware(Prefix, root_path=settings.root_path)
    return app
