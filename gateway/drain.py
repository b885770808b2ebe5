"""Drain a process that was told to stop, without losing a request.

begun      /readiness reports 503, so that load balancers choose another server; requests are served as before
refusing   after the drain period, new requests are refused; accepted requests are finished
over       accepted requests are finished, or their time is up
"""

import time

from gateway.in_flight import InFlightLimiter


class Drain:
    """The drain of one process.

    Args:
        limiter: knows how many accepted requests are in flight.
        seconds: how long requests are accepted after `begin`. Load balancers need some seconds to notice.
        patience_seconds: how long accepted requests may take after that. No request may last longer by itself.
    """

    def __init__(self, limiter: InFlightLimiter, seconds: float, patience_seconds: float) -> None:
        self._limiter = limiter
        self._seconds = seconds
        self._patience_seconds = patience_seconds
        self._began: float | None = None

    def begin(self) -> None:
        """Begin the drain. A second call restarts its clock."""
        self._began = time.monotonic()

    @property
    def begun(self) -> bool:
        """Whether the process was told to stop."""
        return self._began is not None

    @property
    def refusing(self) -> bool:
        """Whether new requests are refused."""
        return self._began is not None and time.monotonic() >= self._began + self._seconds

    @property
    def over(self) -> bool:
        """Whether the process may exit."""
        if self._began is None or not self.refusing:
            return False
        return not self._limiter.admitted or time.monotonic() >= self._began + self._seconds + self._patience_seconds
