"""The way out: from being asked to stop to the end, without a request lost.

asked to stop   readiness says no, so that balancers turn elsewhere; requests are served as ever
refusing        after so many seconds; what was accepted is finished
over            when it is
"""

import time

from gateway.in_flight import InFlight


class Drain:
    """Of one process.

    Args:
        seconds: that requests are served for after it begins, as balancers need some to notice.
        patience_seconds: after that, for what was accepted; none of that may last longer by itself.
    """

    def __init__(self, in_flight: InFlight, seconds: float, patience_seconds: float) -> None:
        self._in_flight = in_flight
        self._seconds = seconds
        self._patience_seconds = patience_seconds
        self._began: float | None = None

    def begin(self) -> None:
        """From now on it is being asked to stop; a second time changes nothing but the clock."""
        self._began = time.monotonic()

    @property
    def begun(self) -> bool:
        """Whether it was asked to stop: readiness says no."""
        return self._began is not None

    @property
    def refusing(self) -> bool:
        """Whether new requests are refused."""
        return self._began is not None and time.monotonic() >= self._began + self._seconds

    @property
    def over(self) -> bool:
        """Whether the process may end: what was accepted is answered, or was given its time."""
        if self._began is None or not self.refusing:
            return False
        return not self._in_flight.count or time.monotonic() >= self._began + self._seconds + self._patience_seconds
