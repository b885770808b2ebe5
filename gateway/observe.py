"""What one request cost, taken once and told three times: as metrics, as a log line, as a ``Server-Timing`` header."""

import functools
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import orjson
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

from gateway.cache import TextCache

STAGES: Final = ("fetch", "decode", "preprocess", "tokenize", "encode", "similarity")

# Upper bounds in seconds: from a tokenised text to a deadline.
_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

# What orchestrators ask every few seconds would drown the rest of the log.
_UNREMARKABLE: Final = frozenset({"/healthz", "/readiness", "/metrics"})

_log = logging.getLogger("gateway.access")


class Stages:
    """Seconds that one request spent in each stage.

    Images of one request are decoded side by side: a stage's seconds are summed over items, so together they may exceed
    the request's own duration.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def add(self, stage: str, seconds: float) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Adds the time that passes within."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - start)

    def server_timing(self, total: float) -> str:
        """As in https://www.w3.org/TR/server-timing/: milliseconds by stage, in order, and in all."""
        entries = [f"{stage};dur={self.seconds[stage] * 1e3:.2f}" for stage in STAGES if stage in self.seconds]
        return ", ".join([*entries, f"total;dur={total * 1e3:.2f}"])


class Metrics:
    """The gateway's own metrics, Triton having its own for the models. One registry an app: tests make many.

    With several workers each writes to files that any of them can add up, as prometheus_client's multiprocess mode has
    it: ``__main__`` names their directory in ``PROMETHEUS_MULTIPROC_DIR`` before the workers start.
    """

    def __init__(self, cache: TextCache) -> None:
        self._cache = cache
        self._shared = "PROMETHEUS_MULTIPROC_DIR" in os.environ
        self._registry = registry = CollectorRegistry()
        if not self._shared:
            ProcessCollector(registry=registry)
            PlatformCollector(registry=registry)
        self.requests = Counter("pe_requests_total", "Requests answered.", ["route", "status"], registry=registry)
        self.duration = Histogram(
            "pe_request_seconds", "Duration of a request.", ["route"], buckets=_BUCKETS, registry=registry
        )
        self.stages = Histogram(
            "pe_stage_seconds",
            "Time a request spent in a stage, summed over its items.",
            ["stage"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self.refused = Counter(
            "pe_refused_total",
            "Requests ended early: refused unread, or left by their client.",
            ["reason"],
            registry=registry,
        )
        self.in_flight = Gauge(
            "pe_in_flight", "Inference requests being worked on.", registry=registry, multiprocess_mode="livesum"
        )
        lookups = Counter("pe_text_cache_lookups_total", "Texts looked up.", ["result"], registry=registry)
        self._hits, self._misses = lookups.labels("hit"), lookups.labels("miss")
        # Finding a series by its labels costs more than counting in it. There are few: routes, statuses, stages.
        self._requests = functools.cache(self.requests.labels)
        self._duration = functools.cache(self.duration.labels)
        self._stages = functools.cache(self.stages.labels)
        self._known_hits = self._known_misses = self._known_bytes = 0
        self._cache_bytes = Gauge(
            "pe_text_cache_bytes", "Memory of cached texts.", registry=registry, multiprocess_mode="livesum"
        )

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

    def record(
        self, *, route: str, status: int, seconds: float, stages: Stages, request_id: str, client: str | None
    ) -> None:
        """One answered request: counts it, and writes its line of the log. ``client``: the address that asked."""
        self._requests(route, str(status)).inc()
        self._duration(route).observe(seconds)
        for stage, spent in stages.seconds.items():
            self._stages(stage).observe(spent)
        self._follow_cache()
        level = logging.DEBUG if route in _UNREMARKABLE and status < 500 else logging.INFO
        if _log.isEnabledFor(level):
            entry = {
                "request_id": request_id,
                "client": client,
                "route": route,
                "status": status,
                "ms": round(seconds * 1e3, 2),
                **{stage: round(spent * 1e3, 2) for stage, spent in stages.seconds.items()},
            }
            # JSON also keeps a client's odd characters from forging lines of the log, and escapes from terminals.
            line = orjson.dumps(entry)
            _log.log(level, line.decode() if line.isascii() else json.dumps(entry))

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
