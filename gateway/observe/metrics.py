"""The gateway's metrics, in Prometheus format. Triton exports its own metrics about the models."""

import functools
import os
from pathlib import Path
from typing import Final, Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from gateway.in_flight import InFlightLimiter
from gateway.observe.access_log import FinishedRequest
from gateway.observe.cpu_metrics import CpuMetrics

# Upper bounds in seconds, from the time to tokenise a text to the default deadline.
_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BATCHES: Final = (1, 2, 4, 8, 16, 32, 64, 128)
# Errors that end a request before its work is done.
_REFUSALS: Final = frozenset(
    {"Overloaded", "ShareExceeded", "TooManyFetches", "PayloadTooLarge", "Unauthorized", "Stopping", "ClientLeft"}
)


def count_in_this_process() -> None:
    """Ignore a directory of metrics that the environment names: it is another program's.

    `prometheus_client` reads the variable when it is imported. With an inherited one, the gateway would write beside
    that program's metrics, or not start because the directory does not exist.
    """
    for name in ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"):
        os.environ.pop(name, None)
    values.ValueClass = values.MutexValue


class CacheCounts(Protocol):
    """The counts that a text cache keeps."""

    hits: int
    misses: int
    bytes: int


class Metrics:
    """The metrics of one app.

    With several workers, each worker writes its metrics to files, and any worker can add them up. This is
    prometheus_client's multiprocess mode: `__main__` sets `PROMETHEUS_MULTIPROC_DIR` before the workers start.

    Args:
        cache: the text cache whose counts are exported.
        registry: the registry to use. Default: a new one. It may contain other metrics too.
    """

    def __init__(self, cache: CacheCounts, registry: CollectorRegistry | None = None) -> None:
        self._cache = cache
        self._multiprocess = "PROMETHEUS_MULTIPROC_DIR" in os.environ
        self._registry = registry = registry or CollectorRegistry()
        if not self._multiprocess:
            ProcessCollector(registry=registry)
            PlatformCollector(registry=registry)
        self._cpu = CpuMetrics(registry)
        counter = functools.partial(Counter, registry=registry)
        histogram = functools.partial(Histogram, registry=registry)
        gauge = functools.partial(Gauge, registry=registry, multiprocess_mode="livesum")
        requests = counter("pe_requests_total", "Requests answered.", ["route", "status"])
        duration = histogram("pe_request_seconds", "Duration of a request.", ["route"], buckets=_BUCKETS)
        stages = histogram(
            "pe_stage_seconds", "Time a request spent in a stage, summed over its items.", ["stage"], buckets=_BUCKETS
        )
        errors = counter("pe_errors_total", "Requests answered with an error.", ["error"])
        refused = counter(
            "pe_refused_total", "Requests that ended early: refused, or their client disconnected.", ["reason"]
        )
        batches = histogram("pe_batch_size", "Items in one call to Triton.", ["tower"], buckets=_BATCHES)
        self._in_flight = gauge("pe_in_flight", "Inference requests in flight.")
        self._in_flight_bytes = gauge("pe_in_flight_bytes", "Bytes of bodies and fetched images in flight.")
        self._fetches = gauge("pe_fetches_in_flight", "Images being fetched from other servers.")
        self._known_fetches = 0
        self._connections = gauge("pe_connections", "Open connections of clients.")
        closed = counter(
            "pe_connections_closed_total",
            "Connections that the server closed, or refused, for a fault or a shortage.",
            ["reason"],
        )
        lookups = counter("pe_text_cache_lookups_total", "Texts looked up in the cache.", ["result"])
        self._hits, self._misses = lookups.labels("hit"), lookups.labels("miss")
        self._cache_bytes = gauge("pe_text_cache_bytes", "Memory of the text cache.")
        self._known_hits = self._known_misses = self._known_bytes = 0
        # Finding a series by its labels costs more than incrementing it. The number of series is small.
        self._requests = functools.cache(requests.labels)
        self._duration = functools.cache(duration.labels)
        self._stages = functools.cache(stages.labels)
        self._errors = functools.cache(errors.labels)
        self._refused = functools.cache(refused.labels)
        self._batches = functools.cache(batches.labels)
        self._closed = functools.cache(closed.labels)

    def exposition(self) -> bytes:
        """The metrics of all workers, added up, in Prometheus' text format."""
        self._cpu.update()
        if not self._multiprocess:
            return generate_latest(self._registry)
        all_workers = CollectorRegistry()
        for path in Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).glob("gauge_live*.db"):
            pid = int(path.stem.rpartition("_")[2])
            if not Path(f"/proc/{pid}").exists():  # a killed worker does not remove its own gauges
                mark_process_dead(pid)  # type: ignore[no-untyped-call]
        MultiProcessCollector(all_workers)  # type: ignore[no-untyped-call]
        return generate_latest(all_workers)

    def set_in_flight(self, limiter: InFlightLimiter) -> None:
        """Set the gauges of requests, bytes and fetches in flight."""
        self._in_flight.set(limiter.count)
        self._in_flight_bytes.set(limiter.bytes)
        if (fetches := limiter.fetches.total) != self._known_fetches:
            self._fetches.set(fetches)
            self._known_fetches = fetches

    def set_connections(self, count: int) -> None:
        """Set the gauge of open connections."""
        self._connections.set(count)

    def count_closed_connections(self, reason: str, count: int) -> None:
        """Count connections that the server closed. A count of 0 makes the reason's series appear."""
        self._closed(reason).inc(count)

    def record(self, request: FinishedRequest) -> None:
        """Count one finished request."""
        self._requests(request.route, str(request.status)).inc()
        self._duration(request.route).observe(request.seconds)
        for stage, spent in request.stages.seconds.items():
            self._stages(stage).observe(spent)
        for tower, size in request.stages.batches:
            self._batches(tower).observe(size)
        if request.error is not None:
            self._errors(request.error).inc()
            if request.error in _REFUSALS:
                self._refused(request.error).inc()
        self._update_cache_metrics()
        self._cpu.update()

    def _update_cache_metrics(self) -> None:
        if (hits := self._cache.hits) != self._known_hits:
            self._hits.inc(hits - self._known_hits)
            self._known_hits = hits
        if (misses := self._cache.misses) != self._known_misses:
            self._misses.inc(misses - self._known_misses)
            self._known_misses = misses
        if (size := self._cache.bytes) != self._known_bytes:
            self._cache_bytes.set(size)
            self._known_bytes = size
