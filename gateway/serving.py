"""Build the app from the settings, and serve it in one process or in several."""

import math
import resource
import socket
from collections.abc import Sequence

import uvicorn
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from gateway import process_memory
from gateway.http.app import create_app
from gateway.http.context import context_of
from gateway.http.protocol import Protocol
from gateway.http.server import Server
from gateway.images.fetch import FetchPolicy, ImageFetcher
from gateway.observe import logs, tracing
from gateway.observe.triton_metrics import TritonMetrics
from gateway.settings import Settings
from gateway.supervisor import Supervisor
from gateway.triton import addresses
from gateway.triton.encoder import TritonEncoder


def check(settings: Settings) -> None:
    """Check what the types of the settings do not check.

    Raises:
        ValueError: an entry of a list is not a host or an address, or a required package is not installed.
    """
    fetch_policy(settings)
    addresses.parse(settings.triton_url)
    if settings.traces:
        tracing.require()


def serve(settings: Settings, listeners: Sequence[socket.socket]) -> int:
    """Serve in this process until SIGTERM or SIGINT. Returns the exit status."""
    _run(settings, listeners, interruptible=True)
    return 0


def serve_with_workers(settings: Settings, listeners: Sequence[socket.socket]) -> int:
    """Serve in several processes until SIGTERM or SIGINT. Returns the exit status."""
    return Supervisor(settings.num_workers, run_worker, listeners).run()


def run_worker(listeners: Sequence[socket.socket]) -> None:
    """Serve in a worker process. Not in `__main__`, because a new interpreter could not import it from there."""
    settings = Settings()
    logs.configure(settings.log_format)
    _run(settings, listeners, interruptible=False)


def _run(settings: Settings, listeners: Sequence[socket.socket], interruptible: bool) -> None:
    # The usual soft limit is 1,024 open files, so that 1,024 idle connections would block all other clients.
    hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
    process_memory.set_malloc_thresholds()
    registry = CollectorRegistry()
    tracer = tracing.Tracing() if settings.traces else None
    encoder = TritonEncoder(
        settings.triton_url, settings.deadline_seconds, metrics=TritonMetrics(registry), tracing=tracer
    )
    app = create_app(settings, encoder, ImageFetcher(fetch_policy(settings)), registry, tracer)
    server = Server(uvicorn_config(settings, app), context_of(app).drain, interruptible=interruptible)
    process_memory.freeze_garbage_collector()
    server.run(list(listeners))


def uvicorn_config(settings: Settings, app: ASGIApp | str = "") -> uvicorn.Config:
    """Build uvicorn's configuration."""
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=Protocol,
        access_log=False,  # the gateway has its own access log, with the time of each stage
        log_config=None,
        # The default is longer than that of most balancers, so that none sends a request on a closing connection.
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=math.ceil(settings.deadline_seconds),
    )


def fetch_policy(settings: Settings) -> FetchPolicy:
    """Build the policy for image URLs.

    Raises:
        ValueError: an entry of a host list is not a host.
    """
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
