import re
from typing import Any

import numpy as np
import pytest

from gateway.in_flight import InFlightLimiter
from gateway.observe.access_log import FinishedRequest
from gateway.observe.metrics import Metrics
from gateway.observe.stages import Stages
from gateway.texts.cache import TextCache, TextEmbedding
from tests.fakes import fake_spec


def record(**other: Any) -> FinishedRequest:
    return FinishedRequest("1", None, "r", 200, None, seconds=0, bytes=0, stages=Stages())._replace(**other)


def value(metrics: Metrics, series: str) -> float:
    """The value of a series; 0 if the series does not exist."""
    found = re.search(rf"^{re.escape(series)} (\S+)$", metrics.exposition().decode(), re.MULTILINE)
    return float(found[1]) if found else 0


def test_the_cache_gauge_is_updated_by_the_next_request_after_a_put() -> None:
    cache = TextCache(1 << 20)
    metrics = Metrics(cache)
    spec = fake_spec()
    cache.get(spec, "a cat")
    metrics.record(record())
    assert value(metrics, "pe_text_cache_bytes") == 0
    cache.put(spec, "a cat", TextEmbedding(np.zeros(8, np.float32), 4, truncated=False))
    metrics.record(record())
    assert value(metrics, "pe_text_cache_bytes") == cache.bytes > 0
    assert value(metrics, 'pe_text_cache_lookups_total{result="miss"}') == 1


def test_errors_are_counted_by_class_and_refusals_separately() -> None:
    metrics = Metrics(TextCache(0))
    for error in ("Overloaded", "EncoderFault", "EncoderFault", None):
        metrics.record(record(error=error))
    assert value(metrics, 'pe_errors_total{error="EncoderFault"}') == 2
    assert value(metrics, 'pe_refused_total{reason="Overloaded"}') == 1
    assert value(metrics, 'pe_refused_total{reason="EncoderFault"}') == 0


def test_batch_sizes() -> None:
    metrics = Metrics(TextCache(0))
    stages = Stages()
    stages.batches = [("vision", 8), ("vision", 3)]
    metrics.record(record(stages=stages))
    assert value(metrics, 'pe_batch_size_sum{tower="vision"}') == 11
    assert value(metrics, 'pe_batch_size_bucket{le="4.0",tower="vision"}') == 1


def test_in_flight() -> None:
    metrics, limiter = Metrics(TextCache(0)), InFlightLimiter(9, 100)
    with limiter.admit(lambda error: None) as reservation:
        reservation.add(70)
        metrics.set_in_flight(limiter)
        assert (value(metrics, "pe_in_flight"), value(metrics, "pe_in_flight_bytes")) == (1, 70)
    metrics.set_in_flight(limiter)
    assert (value(metrics, "pe_in_flight"), value(metrics, "pe_in_flight_bytes")) == (0, 0)


@pytest.mark.parametrize("name", ["pe_requests", "pe_errors", "pe_refused", "pe_request_seconds", "pe_stage_seconds"])
def test_names_follow_the_conventions(name: str) -> None:
    """https://prometheus.io/docs/practices/naming/: counters end in _total, times are in seconds."""
    kind = "histogram" if name.endswith("seconds") else "counter"
    suffix = "" if kind == "histogram" else "_total"
    assert f"# TYPE {name}{suffix} {kind}" in Metrics(TextCache(0)).exposition().decode()
