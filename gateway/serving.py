"""Build the app from the settings, and serve it in one process or in several."""

import math
import resource
import socket
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, cast

import uvicorn
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from gateway import listening, process_memory
from gateway.http.app import create_app
from gateway.http.connections import Connections, default_limit
from gateway.http.context import context_of
from gateway.http.keys_file import KeysFile
from gateway.http.protocol import Protocol
from gateway.http.server import Server
from gateway.images.confined.messages import Limits
from gateway.images.confined.pool import DecodePool
from gateway.images.fetch import FetchPolicy, ImageFetcher
from gateway.observe import logs, tracing
from gateway.observe.decode_metrics import DecodeMetrics
from gateway.observe.triton_metrics import TritonMetrics
from gateway.settings import Settings
from gateway.supervisor import Supervisor
from gateway.triton import addresses, credentials
from gateway.triton.channel import Access
from gateway.triton.encoder import TritonEncoder

# Pillow holds four bytes a pixel, and up to three copies while it converts.
_BYTES_PER_PIXEL: Final = 16
_MEMORY_BESIDE_PIXELS: Final = 128 * 2**20


def check(settings: Settings) -> None:
    """Check what the types of the settings do not check.

    Raises:
        ValueError: an entry of a list is not a host or an address, a file cannot be read or has other contents, or a
            required package is not installed.
    """
    fetch_policy(settings)
    addresses.parse(settings.triton_url)
    triton_access(settings)
    if settings.api_keys_file is not None:
        KeysFile(settings.api_keys_file)
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
    descriptors = _raise_descriptor_limit()
    process_memory.set_malloc_thresholds()
    registry = CollectorRegistry()
    tracer = tracing.Tracing() if settings.traces else None
    encoder = TritonEncoder(
        settings.triton_url,
        settings.deadline_seconds,
        metrics=TritonMetrics(registry),
        tracing=tracer,
        access=triton_access(settings),
    )
    fetcher = ImageFetcher(fetch_policy(settings), max_fetches=settings.max_fetches)
    decoder = DecodePool(settings.decode_workers, decode_limits(settings), DecodeMetrics(registry).count_lost)
    app = create_app(settings, encoder, fetcher, decoder, registry, tracer)
    connections = Connections(settings.max_connections or default_limit(descriptors), context_of(app).metrics)
    server = Server(uvicorn_config(settings, app, connections), context_of(app).drain, interruptible=interruptible)
    process_memory.freeze_garbage_collector()
    server.run(listening.with_copies(listeners, settings.num_workers))


def _raise_descriptor_limit() -> int:
    """Raise the limit of file descriptors as far as this process may. Returns the limit."""
    hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
    return hard_limit if hard_limit != resource.RLIM_INFINITY else sys.maxsize


def uvicorn_config(settings: Settings, app: ASGIApp, connections: Connections) -> uvicorn.Config:
    """Build uvicorn's configuration.

    Args:
        connections: the registry of the process's connections.
    """
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=cast(Any, partial(Protocol, registry=connections)),  # uvicorn's type asks for a class, and it calls it
        ws="none",
        access_log=False,  # the gateway has its own access log, with the time of each stage
        log_config=None,
        # The default is longer than that of most balancers, so that none sends a request on a closing connection.
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=math.ceil(settings.deadline_seconds),
        workers=1,  # otherwise uvicorn reads WEB_CONCURRENCY, which hosting platforms set, and stops on odd values
    )


def triton_access(settings: Settings) -> Access:
    """Read the files that secure the calls to Triton.

    Raises:
        ValueError: a file cannot be read or has other contents.
    """
    return credentials.load(
        tls=settings.triton_tls,
        ca=settings.triton_ca_file,
        certificate=settings.triton_certificate_file,
        key=settings.triton_key_file,
        server_name=settings.triton_server_name,
        headers=settings.triton_headers.get_secret_value() if settings.triton_headers else "",
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


def decode_limits(settings: Settings) -> Limits:
    """Build the limits of a process that decodes images."""
    memory_bytes = settings.decode_memory_bytes or settings.max_image_pixels * _BYTES_PER_PIXEL + _MEMORY_BESIDE_PIXELS
    return Limits(settings.max_image_pixels, memory_bytes, settings.decode_seconds)
