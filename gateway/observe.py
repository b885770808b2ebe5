"""What one request cost, taken once and told three times: as metrics, as a log line, as a ``Server-Timing`` header."""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.cache import TextCache

STAGES = ("fetch", "decode", "preprocess", "tokenize", "encode", "similarity")

# Upper bounds in seconds: from a tokenised text to a deadline.
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

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


class _CacheCollector(Collector):
    def __init__(self, cache: TextCache) -> None:
        self._cache = cache

    def collect(self) -> Iterator[Metric]:
        lookups = CounterMetricFamily("pe_text_cache_lookups", "Texts looked up.", labels=["result"])
        lookups.add_metric(["hit"], self._cache.hits)
        lookups.add_metric(["miss"], self._cache.misses)
        yield lookups
        yield GaugeMetricFamily("pe_text_cache_bytes", "Bytes that cached texts take.", self._cache.bytes)


class Metrics:
    """The gateway's own metrics, Triton having its own for the models. One registry an app: tests make many."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = Counter("pe_requests_total", "Requests answered.", ["route", "status"], registry=self.registry)
        self.duration = Histogram(
            "pe_request_seconds", "Duration of a request.", ["route"], buckets=_BUCKETS, registry=self.registry
        )
        self.stages = Histogram(
            "pe_stage_seconds",
            "Time a request spent in a stage, summed over its items.",
            ["stage"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.items = Counter("pe_items_total", "Items embedded.", ["kind"], registry=self.registry)
        self.refused = Counter("pe_refused_total", "Requests refused unread.", ["reason"], registry=self.registry)
        self.in_flight = Gauge("pe_in_flight", "Inference requests being worked on.", registry=self.registry)

    def follow(self, cache: TextCache) -> None:
        """Shows what the cache counts."""
        self.registry.register(_CacheCollector(cache))

    def record(self, *, route: str, status: int, seconds: float, stages: Stages, request_id: str) -> None:
        """One answered request."""
        self.requests.labels(route, str(status)).inc()
        self.duration.labels(route).observe(seconds)
        for stage, spent in stages.seconds.items():
            self.stages.labels(stage).observe(spent)
        if _log.isEnabledFor(logging.INFO):
            # JSON also keeps a client's odd characters from forging lines of the log.
            _log.info(
                "%s",
                json.dumps(
                    {
                        "request_id": request_id,
                        "route": route,
                        "status": status,
                        "ms": round(seconds * 1e3, 2),
                        **{stage: round(spent * 1e3, 2) for stage, spent in stages.seconds.items()},
                    }
                ),
            )
