"""Metrics of each Triton, as this gateway sees it. Triton exports its own metrics about its models."""

import os
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from gateway.errors import GatewayError

_OK: Final = "Ok"
_CANCELLED: Final = "Cancelled"


class TritonMetrics:
    """Metrics labelled by the address of a Triton, `host:port` or `unix:/path`.

    With one worker, the series of a removed replica disappear. With several, its gauges stay at 0.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._multiprocess = "PROMETHEUS_MULTIPROC_DIR" in os.environ
        self._up = Gauge(
            "pe_triton_up",
            "1 if the Triton is given requests, 0 if it is unreachable or hangs.",
            ["address"],
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._in_flight = Gauge(
            "pe_triton_in_flight",
            "Inference calls in flight to a Triton.",
            ["address"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._calls = Counter(
            "pe_triton_calls_total", "Inference calls to a Triton.", ["address", "result"], registry=registry
        )
        self._retries = Counter(
            "pe_triton_retries_total", "Inference calls made again because the first call was lost.", registry=registry
        )

    def add_replica(self, address: str) -> "ReplicaMetrics":
        """Create the series of one Triton."""
        return ReplicaMetrics(self._up.labels(address), self._in_flight.labels(address), self._calls, address)

    def remove_replica(self, address: str) -> None:
        """Remove the gauges of one Triton. Its counters stay."""
        if not self._multiprocess:  # prometheus_client cannot remove a series from the files of multiprocess mode
            self._up.remove(address)
            self._in_flight.remove(address)

    def count_retry(self) -> None:
        """Count a call that was made again."""
        self._retries.inc()


class ReplicaMetrics:
    """The series of one Triton."""

    def __init__(self, up: Gauge, in_flight: Gauge, calls: Counter, address: str) -> None:
        self._up = up
        self._in_flight = in_flight
        self._calls = calls
        self._address = address
        self._ok = calls.labels(address, _OK)
        self._up.set(0)

    def set_up(self, up: bool) -> None:
        """Set whether this Triton is given requests."""
        self._up.set(int(up))

    def set_in_flight(self, count: int) -> None:
        """Set the number of calls in flight."""
        self._in_flight.set(count)

    def count_success(self) -> None:
        """Count a call that returned embeddings."""
        self._ok.inc()

    def count_failure(self, error: GatewayError) -> None:
        """Count a failed call, by the class of its error."""
        self._calls.labels(self._address, type(error).__name__).inc()

    def count_cancelled(self) -> None:
        """Count a call that the gateway cancelled, because its client disconnected or its deadline expired."""
        self._calls.labels(self._address, _CANCELLED).inc()
