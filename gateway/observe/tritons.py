"""Metrics of each Triton, as this gateway sees it. Triton's own are about its models."""

import os
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from gateway.errors import GatewayError

_OK: Final = "Ok"
_CANCELLED: Final = "Cancelled"


class TritonMetrics:
    """By address, ``host:port``. An address that is not named any more is forgotten, or, with several workers, 0."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._shared = "PROMETHEUS_MULTIPROC_DIR" in os.environ
        self._up = Gauge(
            "pe_triton_up",
            "1 for a Triton that is given requests, 0 for one that cannot be reached or hangs.",
            ["address"],
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._in_flight = Gauge(
            "pe_triton_in_flight",
            "Calls that a Triton has not answered yet.",
            ["address"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._calls = Counter(
            "pe_triton_calls_total", "Inference calls to a Triton.", ["address", "result"], registry=registry
        )
        self._retries = Counter(
            "pe_triton_retries_total", "Calls made again, as the first one was lost.", registry=registry
        )

    def of(self, address: str) -> "OneTriton":
        return OneTriton(self._up.labels(address), self._in_flight.labels(address), self._calls, address)

    def gone(self, address: str) -> None:
        if not self._shared:  # prometheus_client cannot remove a series that files hold
            self._up.remove(address)
            self._in_flight.remove(address)

    def retried(self) -> None:
        self._retries.inc()


class OneTriton:
    """The series of one address."""

    def __init__(self, up: Gauge, in_flight: Gauge, calls: Counter, address: str) -> None:
        self._up = up
        self._in_flight = in_flight
        self._calls = calls
        self._address = address
        self._ok = calls.labels(address, _OK)
        self._up.set(0)

    def is_up(self, up: bool) -> None:
        self._up.set(int(up))

    def has_outstanding(self, count: int) -> None:
        self._in_flight.set(count)

    def answered(self) -> None:
        self._ok.inc()

    def failed(self, error: GatewayError | None) -> None:
        """By its class; None: nobody waited any more."""
        self._calls.labels(self._address, type(error).__name__ if error else _CANCELLED).inc()
