"""How much may be in flight. There is no queue here: batching and waiting are Triton's."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from gateway.errors import Overloaded

Take = Callable[[int], None]
"""Asks for so many bytes more, before or as they come; raises Overloaded where there is no room for them."""

# A body that comes more slowly than this is in the way once others want its place: a few clients that send a byte at a
# time would otherwise keep everybody else out until their deadlines.
_BYTES_PER_SECOND: Final = 256 * 2**10
_PATIENCE_SECONDS: Final = 0.5


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
        self._in_flight.make_room(0, size)
        self._in_flight.bytes += size
        self.bytes += size

    def release(self) -> None:
        """Gives it back; once, however often it is called."""
        self._in_flight.bytes -= self.bytes
        self.bytes = 0


class Stay(Share):
    """One request's, from its head to its answer. While its body is on its way it may be sent ``away``."""

    def __init__(self, in_flight: "InFlight", end: Callable[[], None]) -> None:
        super().__init__(in_flight)
        self._end = end
        self._since = time.monotonic()
        self._arrived = 0
        self.away = False

    def arrived(self, size: int, more: bool) -> None:
        """So much of the body is here."""
        self._arrived += size
        if not more:
            self._in_flight.arriving.pop(self, None)

    @property
    def late(self) -> float:
        """Seconds by which the body is behind one that comes as fast as it should."""
        return time.monotonic() - self._since - self._arrived / _BYTES_PER_SECOND

    def send_away(self) -> None:
        self.leave()
        self.away = True
        self._end()

    def leave(self) -> None:
        if not self.away:
            self._in_flight.count -= 1
            self._in_flight.arriving.pop(self, None)
            self.release()


class InFlight:
    """A bounded count of requests, and of the bytes that came in with them. Used on one event loop, without a lock."""

    def __init__(self, max_requests: int, max_bytes: int) -> None:
        self._max_requests = max_requests
        self.max_bytes = max_bytes
        self.count = 0
        self.bytes = 0
        self.arriving: dict[Stay, None] = {}

    @contextmanager
    def admit(self, end: Callable[[], None]) -> Iterator[Stay]:
        """One request's stay. ``end`` is called where it has to give way to others.

        Raises:
            Overloaded: as many as allowed are in already.
        """
        self.make_room(1, 0)
        self.count += 1
        stay = Stay(self, end)
        self.arriving[stay] = None
        try:
            yield stay
        finally:
            stay.leave()

    def make_room(self, requests: int, size: int) -> None:
        """Sends away those whose bodies are slow to arrive, the slowest first, until there is room.

        Raises:
            Overloaded: there is none.
        """
        while self.count + requests > self._max_requests or self.bytes + size > self.max_bytes:
            slowest = max(self.arriving, key=lambda stay: stay.late, default=None)
            if slowest is None or slowest.late < _PATIENCE_SECONDS:
                raise Overloaded("The server is busy. Try again in a moment.")
            slowest.send_away()

    @contextmanager
    def share(self) -> Iterator[Share]:
        """Room for bytes beside the request's own."""
        share = Share(self)
        try:
            yield share
        finally:
            share.release()
