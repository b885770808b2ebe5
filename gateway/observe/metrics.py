"""The gateway's own metrics, Triton having its own for the models."""

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
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from gateway.in_flight import InFlightLimiter
from gateway.observe.requests import Answered

# Upper bounds in seconds: from a tokenised text to a deadline.
_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BATCHES: Final = (1, 2, 4, 8, 16, 32, 64, 128)
# Errors that end a request before it is worked on, or in spite of that.
_REFUSALS: Final = frozenset({"Overloaded", "PayloadTooLarge", "Unauthorized", "Stopping", "ClientLeft"})


class CacheCounts(Protocol):
    """What is counted of a text cache."""

    hits: int
    misses: int
    bytes: int


class Metrics:
    """One registry an app: tests make many. One that is given may hold others' metrics, too.

    With several workers each writes to files that any of them can add up, as prometheus_client's multiprocess mode has
    it: ``__main__`` names their directory in ``PROMETHEUS_MULTIPROC_DIR`` before they start.
    """

    def __init__(self, cache: CacheCounts, registry: CollectorRegistry | None = None) -> None:
        self._cache = cache
        self._shared = "PROMETHEUS_MULTIPROC_DIR" in os.environ
        self._registry = registry = registry or CollectorRegistry()
        if not self._shared:
            ProcessCollector(registry=registry)
            PlatformCollector(registry=registry)
        requests = Counter("pe_requests_total", "Requests answered.", ["route", "status"], registry=registry)
        duration = Histogram(
            "pe_request_seconds", "Duration of a request.", ["route"], buckets=_BUCKETS, registry=registry
        )
        stages = Histogram(
            "pe_stage_seconds",
            "Time a request spent in a stage, summed over its items.",
            ["stage"],
            buckets=_BUCKETS,
            registry=registry,
        )
        errors = Counter("pe_errors_total", "Requests answered with an error.", ["error"], registry=registry)
        refused = Counter(
            "pe_refused_total",
            "Requests ended early: refused unread, or left by their client.",
            ["reason"],
            registry=registry,
        )
        batches = Histogram(
            "pe_batch_size", "Items in one call to Triton.", ["tower"], buckets=_BATCHES, registry=registry
        )
        self._in_flight = Gauge(
            "pe_in_flight", "Inference requests being worked on.", registry=registry, multiprocess_mode="livesum"
        )
        self._in_flight_bytes = Gauge(
            "pe_in_flight_bytes",
            "Bytes of their bodies and fetched images.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        lookups = Counter("pe_text_cache_lookups_total", "Texts looked up.", ["result"], registry=registry)
        self._hits, self._misses = lookups.labels("hit"), lookups.labels("miss")
        self._cache_bytes = Gauge(
            "pe_text_cache_bytes", "Memory of cached texts.", registry=registry, multiprocess_mode="livesum"
        )
        self._known_hits = self._known_misses = self._known_bytes = 0
        # Finding a series by its labels costs more than counting in it. There are few: routes, statuses, stages.
        self._requests = functools.cache(requests.labels)
        self._duration = functools.cache(duration.labels)
        self._stages = functools.cache(stages.labels)
        self._errors = functools.cache(errors.labels)
        self._refused = functools.cache(refused.labels)
        self._batches = functools.cache(batches.labels)

    def exposition(self) -> bytes:
        """All of them as Prometheus text, of all workers together."""
        if not self._shared:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        for path in Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).glob("gauge_live*.db"):
            pid = int(path.stem.rpartition("_")[2])
            if not Path(f"/proc/{pid}").exists():  # killed, so that it could not say goodbye
                mark_process_dead(pid)  # type: ignore[no-untyped-call]
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)

    def in_flight_is(self, limiter: InFlightLimiter) -> None:
        """Sets the gauges of requests, and of bytes, in flight."""
        self._in_flight.set(limiter.count)
        self._in_flight_bytes.set(limiter.bytes)

    def record(self, request: Answered) -> None:
        """Counts one request."""
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
        self._follow_cache()

    def _follow_cache(self) -> None:
        if (hits := self._cache.hits) != self._known_hits:
            self._hits.inc(hits - self._known_hits)
            self._known_hits = hits
        if (misses := self._cache.misses) != self._known_misses:
            self._misses.inc(misses - self._known_misses)
            self._known_misses = misses
        if (size := self._cache.bytes) != self._known_bytes:
            self._cache_bytes.set(size)
            self._known_bytes = size
