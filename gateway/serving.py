"""The real things, built from the settings, and served."""

import math
import resource
import socket

import uvicorn
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from gateway import process_memory as memory
from gateway.http.app import create_app
from gateway.http.context import context_of
from gateway.http.protocol import Protocol
from gateway.http.server import Server
from gateway.images.fetch import FetchPolicy, ImageFetcher
from gateway.observe import logs, trace
from gateway.observe.trace import Tracing
from gateway.observe.tritons import TritonMetrics
from gateway.settings import Settings
from gateway.supervisor import Workers
from gateway.triton import addresses
from gateway.triton.encoder import TritonEncoder


def check(settings: Settings) -> None:
    """What the settings' own types do not.

    Raises:
        ValueError: a list has an entry that is no host, or no address; or what is wanted is not installed.
    """
    fetch_policy(settings)
    addresses.parse(settings.triton_url)
    if settings.traces:
        trace.require()


def serve(settings: Settings) -> int:
    """Serves in this process until it is told to stop. The exit status."""
    _run(settings, None)
    return 0


def serve_by_workers(settings: Settings) -> int:
    """The same in several."""
    return Workers(settings.num_workers, work, config(settings).bind_socket()).run()


def work(listener: socket.socket) -> None:
    """One worker's life. Not in ``__main__``: a new interpreter could not look it up there."""
    settings = Settings()
    logs.configure(settings.log_format)
    _run(settings, listener)


def _run(settings: Settings, listener: socket.socket | None) -> None:
    # Where the soft limit is the usual 1,024, as many idle connections would keep everybody else out.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    memory.give_back_large_blocks()
    registry = CollectorRegistry()
    tracing = Tracing() if settings.traces else None
    encoder = TritonEncoder(
        settings.triton_url, settings.deadline_seconds, metrics=TritonMetrics(registry), tracing=tracing
    )
    app = create_app(settings, encoder, ImageFetcher(fetch_policy(settings)), registry, tracing)
    server = Server(config(settings, app), context_of(app).drain, interruptible=listener is None)
    memory.freeze()
    server.run(None if listener is None else [listener])


def config(settings: Settings, app: ASGIApp | str = "") -> uvicorn.Config:
    """What uvicorn is told."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=Protocol,
        access_log=False,  # the gateway writes its own line, with the stages' times
        log_config=None,
        # Longer than balancers keep theirs (60 s, mostly), or now and then a request meets one that is just closing.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=math.ceil(settings.deadline_seconds),
    )


def fetch_policy(settings: Settings) -> FetchPolicy:
    """What the settings say of image URLs. Raises ValueError: an entry of a host list that is no host."""
    return FetchPolicy(
        allow_url_input=settings.allow_url_input,
        allow_non_https=settings.allow_non_https_url_input,
        allow_without_fqdn=settings.allow_url_input_without_fqdn,
        allow_non_global_addresses=settings.allow_url_to_non_global_addresses,
        allowed_hosts=settings.allowed_hosts,
        denied_hosts=settings.denied_hosts,
        max_redirects=settings.max_redirects,
        timeout_seconds=settings.url_timeout_seconds,
        max_bytes=settings.max_body_bytes,
    )
