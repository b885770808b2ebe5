"""The metric of the processes that decode images."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter

_REASONS: Final = ("time", "slow", "cancelled", "memory", "crash")


class DecodeMetrics:
    """Counts the processes that were lost.

    Args:
        registry: the registry to use.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._lost = Counter(
            "pe_decode_workers_lost_total",
            "Processes that decode images and were killed or crashed, by reason.",
            ["reason"],
            registry=registry,
        )
        for reason in _REASONS:
            self._lost.labels(reason)  # A series that exists from the start shows its first increase.

    def count_lost(self, reason: str) -> None:
        """Count one process: `time`, `slow`, `cancelled`, `memory` or `crash`."""
        self._lost.labels(reason).inc()
