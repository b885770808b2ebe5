"""How much may be in flight. There is no queue here: batching and waiting are Triton's."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gateway.errors import Overloaded

Take = Callable[[int], None]
"""Asks for so many bytes more, before or as they come; raises Overloaded where there is no room for them."""


class Share:
    """The bytes that one request, or one of its fetched images, holds."""

    def __init__(self, in_flight: "InFlight") -> None:
        self._in_flight = in_flight
        self.bytes = 0

    def take(self, size: int) -> None:
        """Holds so many more.

        Raises:
            Overloaded: with them, more than allowed would be held.
        """
        if self._in_flight.bytes + size > self._in_flight.max_bytes:
            raise Overloaded("The server is busy. Try again in a moment.")
        self._in_flight.bytes += size
        self.bytes += size

    def release(self) -> None:
        """Gives it back; once, however often it is called."""
        self._in_flight.bytes -= self.bytes
        self.bytes = 0


class InFlight:
    """A bounded count of requests, and of the bytes that came in with them. Used on one event loop, without a lock."""

    def __init__(self, max_requests: int, max_bytes: int) -> None:
        self._max_requests = max_requests
        self.max_bytes = max_bytes
        self.count = 0
        self.bytes = 0

    @contextmanager
    def admit(self) -> Iterator[Share]:
        """One request's stay.

        Raises:
            Overloaded: as many as allowed are in already.
        """
        if self.count >= self._max_requests:
            raise Overloaded("The server is busy. Try again in a moment.")
        self.count += 1
        share = Share(self)
        try:
            yield share
        finally:
            self.count -= 1
            share.release()

    @contextmanager
    def share(self) -> Iterator[Share]:
        """Room for bytes beside the request's own."""
        share = Share(self)
        try:
            yield share
        finally:
            share.release()
