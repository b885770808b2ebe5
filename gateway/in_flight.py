"""Admission control: bound the requests in flight and the bytes that they hold.

The gateway has no queue of its own, because Triton queues and batches. The gateway refuses what exceeds its bounds.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from gateway.errors import GatewayError, Overloaded

ReserveBytes = Callable[[int], None]
"""Reserve so many more bytes, before or while they arrive. Raises `Overloaded` if the byte budget is exhausted."""

# A body that arrives more slowly than this is evicted as soon as another request needs its place. Without eviction, a
# few clients that send one byte at a time would keep all others out until their deadlines.
_MIN_BYTES_PER_SECOND: Final = 256 * 2**10
_GRACE_SECONDS: Final = 0.5

_BUSY: Final = "The server is busy. Try again in a moment."
_EVICTED: Final = "The server is busy, and this request was slow to arrive. Try again."


class Reservation:
    """Bytes that one request, or one of its fetched images, holds of the byte budget."""

    def __init__(self, limiter: "InFlightLimiter") -> None:
        self._limiter = limiter
        self.bytes = 0

    def add(self, size: int) -> None:
        """Reserve `size` more bytes.

        Raises:
            Overloaded: the byte budget is exhausted.
        """
        self._limiter.make_room(0, size, self)
        self._limiter.bytes += size
        self.bytes += size

    def release(self) -> None:
        """Return the bytes to the budget. Further calls change nothing."""
        self._limiter.bytes -= self.bytes
        self.bytes = 0


class RequestReservation(Reservation):
    """One request's place and bytes, from its head to its response. It can be evicted while its body is uploading.

    Args:
        cancel: ends the request with the error that is passed to it.
    """

    def __init__(self, limiter: "InFlightLimiter", cancel: Callable[[GatewayError], None]) -> None:
        super().__init__(limiter)
        self._cancel = cancel
        self._admitted_at = time.monotonic()
        self._received_bytes = 0
        self._has_place = True

    def body_received(self, size: int, more: bool) -> None:
        """Count `size` bytes of the body as received. After the last ones the request cannot be evicted any more."""
        self._received_bytes += size
        if not more:
            self._limiter.uploading.pop(self, None)

    @property
    def seconds_behind(self) -> float:
        """Seconds by which the body is behind one that arrives at the minimum rate."""
        return time.monotonic() - self._admitted_at - self._received_bytes / _MIN_BYTES_PER_SECOND

    def evict(self) -> None:
        """Release place and bytes at once, and end the request with `Overloaded`."""
        self.release()
        self._cancel(Overloaded(_EVICTED))

    def release(self) -> None:
        if self._has_place:
            self._has_place = False
            self._limiter.count -= 1
            self._limiter.uploading.pop(self, None)
        super().release()


class InFlightLimiter:
    """Bound the number of requests in flight and the bytes of their bodies and fetched images.

    All calls come from one event loop, so there is no lock.

    Args:
        max_requests: requests in flight.
        max_bytes: the byte budget.

    Attributes:
        count: requests in flight now.
        bytes: bytes that are reserved now.
        uploading: the requests whose bodies are not complete, in the order of their admission.
    """

    def __init__(self, max_requests: int, max_bytes: int) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self.count = 0
        self.bytes = 0
        self.uploading: dict[RequestReservation, None] = {}

    @contextmanager
    def admit(self, cancel: Callable[[GatewayError], None]) -> Iterator[RequestReservation]:
        """Admit one request for the duration of the block.

        Args:
            cancel: called with an `Overloaded` if the request is evicted.

        Raises:
            Overloaded: the maximum of requests is in flight, and none of them can be evicted.
        """
        self.make_room(1, 0)
        self.count += 1
        reservation = RequestReservation(self, cancel)
        self.uploading[reservation] = None
        try:
            yield reservation
        finally:
            reservation.release()

    @contextmanager
    def reserve(self) -> Iterator[Reservation]:
        """Hold bytes beside the request's own for the duration of the block. They start at 0."""
        reservation = Reservation(self)
        try:
            yield reservation
        finally:
            reservation.release()

    def make_room(self, requests: int, size: int, requester: Reservation | None = None) -> None:
        """Evict requests with slow uploads, the slowest first, until so many requests and bytes fit.

        Args:
            requester: the reservation that needs the room.

        Raises:
            Overloaded: no upload is slow enough to evict, or the slowest one is the requester's own.
        """
        while self.count + requests > self._max_requests or self.bytes + size > self._max_bytes:
            slowest = max(self.uploading, key=lambda reservation: reservation.seconds_behind, default=None)
            if slowest is None or slowest.seconds_behind < _GRACE_SECONDS:
                raise Overloaded(_BUSY)
            if slowest is requester:
                raise Overloaded(_EVICTED)
            slowest.evict()
