"""Admission control: bound the requests in flight, the bytes that they hold, and their fetches from other servers.

Requests do not queue to be admitted. The gateway refuses what exceeds its bounds.

A request that only waits for other servers gives its slot back, so that it keeps no other request out. It counts by
its fetches instead. It needs a slot again for the work on what it fetched, and waits for that slot rather than being
refused. There are at most as many such requests as fetches, and each waits until its deadline at most.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Final, Self

from gateway.errors import GatewayError, Overloaded, ShareExceeded, TooManyFetches
from gateway.fair_pool import FairPool

ReserveBytes = Callable[[int], None]
"""Reserve so many more bytes, before or while they arrive. Raises `Overloaded` if the byte budget is exhausted."""

# A body that arrives more slowly than this is evicted as soon as another request needs its slot. Without eviction, a
# few clients that send one byte at a time would keep all others out until their deadlines.
_MIN_BYTES_PER_SECOND: Final = 256 * 2**10
_GRACE_SECONDS: Final = 0.5
# Beyond one client's limit there is a quarter of it for the others.
_RESERVE_DIVISOR: Final = 4
# A request gets a sixteenth of the fetches that its client may still begin, so that its next requests get some, too.
_FETCHES_DIVISOR: Final = 16

_BUSY: Final = "The server is busy. Try again in a moment."
_EVICTED: Final = "The server is busy, and this request was slow to arrive. Try again."
_SHARE: Final = "The server is busy, and this client has its share of it. Try again with fewer requests at once."
_FETCHES: Final = "Too many images are being fetched from other servers. Try again in a moment, or send the images."


class Reservation:
    """Bytes that one request, or one of its fetched images, holds of the byte budget."""

    def __init__(self, limiter: "InFlightLimiter", client: Hashable) -> None:
        self._limiter = limiter
        self.client = client
        self.bytes = 0

    def add(self, size: int) -> None:
        """Reserve `size` more bytes.

        Raises:
            Overloaded: the byte budget is exhausted, or the client's share of it.
        """
        if size:
            self._limiter.take(self._limiter.byte_budget, self.client, size, self)
            self.bytes += size

    def hold(self, size: int) -> None:
        """Reserve more bytes, if needed, to hold `size` of them. Raises the errors of `add`."""
        self.add(max(0, size - self.bytes))

    def release(self) -> None:
        """Return the bytes to the budget. Further calls change nothing."""
        if self.bytes:
            self._limiter.byte_budget.give_back(self.client, self.bytes)
            self.bytes = 0


class RequestReservation(Reservation):
    """One request's slot, bytes and fetches, from its head to its response.

    The request can be evicted while its body is uploading. A context manager: `current_request` returns the reservation
    in the block, and its end releases the reservation.

    Args:
        cancel: ends the request with the error that is passed to it.
    """

    # The defaults are the class's, because most requests need nothing else.
    _received_bytes = 0  # of the body
    _released = False
    _has_slot = True
    _working = 0  # parts of the request that do its own work
    _waiting_for_servers = 0  # fetches that wait for their turn, or are under way
    _slot_granted: asyncio.Event | None = None  # set when the limiter gives a slot again; None while no part waits
    _fetch_slots: asyncio.Semaphore | None = None  # bounds the fetches under way
    _fetches_to_begin = 0
    _fetches_held = 0  # units of the limiter's pool

    def __init__(self, limiter: "InFlightLimiter", client: Hashable, cancel: Callable[[GatewayError], None]) -> None:
        super().__init__(limiter, client)
        self._cancel = cancel
        self._admitted_at = time.monotonic()

    def body_received(self, size: int, more: bool) -> None:
        """Count `size` bytes of the body as received. After the last ones the request cannot be evicted any more."""
        self._received_bytes += size
        if not more:
            self._limiter.uploading.pop(self, None)

    def __enter__(self) -> Self:
        self._token = _request.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        _request.reset(self._token)
        self.release()

    @property
    def seconds_behind(self) -> float:
        """Seconds by which the body is behind one that arrives at the minimum rate."""
        return time.monotonic() - self._admitted_at - self._received_bytes / _MIN_BYTES_PER_SECOND

    def identify(self, client: Hashable) -> None:
        """Count the request for another client, when the head did not tell whose it is.

        Raises:
            Overloaded: the other client has its share already.
        """
        if client == self.client or self._released:
            return
        pools = ((self._limiter.slots, int(self._has_slot)), (self._limiter.byte_budget, self.bytes))
        held = [(pool, size) for pool, size in pools if size]
        for pool, size in held:
            pool.give_back(self.client, size)
        refusal = next((_refusal(pool, client, size) for pool, size in held if not pool.fits(client, size)), None)
        if refusal is None:
            self.client = client
        for pool, size in held:
            pool.take(self.client, size)
        if refusal is not None:
            raise refusal

    def evict(self) -> None:
        """Release everything at once, and end the request with `Overloaded`."""
        self.release()
        self._cancel(Overloaded(_EVICTED))

    def release(self) -> None:
        super().release()
        if self._released:
            return
        self._released = True
        self._limiter.admitted -= 1
        self._limiter.uploading.pop(self, None)
        self._limiter.waiting.pop(self, None)
        if self._fetches_held:
            self._limiter.fetches.give_back(self.client, self._fetches_held)
        if self._has_slot:
            self._give_slot_back()

    @contextmanager
    def reserve(self) -> Iterator[Reservation]:
        """Hold bytes beside the request's own until the block ends. They start at 0."""
        reservation = Reservation(self._limiter, self.client)
        try:
            yield reservation
        finally:
            reservation.release()

    # -- Other servers

    def expect_fetches(self, count: int) -> None:
        """Announce `count` images that have to be fetched. As many are fetched at once as the request's share allows.

        Raises:
            TooManyFetches: not even one can be fetched now.
        """
        pool = self._limiter.fetches
        if not pool.fits(self.client):
            raise TooManyFetches(_FETCHES)
        share = max(1, (pool.limit - pool.held(self.client)) // _FETCHES_DIVISOR)
        while self._fetches_held < min(count, share) and pool.fits(self.client):
            pool.take(self.client)
            self._fetches_held += 1
        self._fetches_to_begin = count
        self._fetch_slots = asyncio.Semaphore(self._fetches_held)

    @asynccontextmanager
    async def waiting_for_server(self) -> AsyncIterator[None]:
        """Wait for the turn of one of the expected fetches, and fetch in the block.

        While no other part of the request is at work, the request has no slot.
        """
        assert self._fetch_slots is not None, "the fetch was not announced"
        self._waiting_for_servers += 1
        self._give_slot_back_if_idle()
        try:
            await self._fetch_slots.acquire()
            self._fetches_to_begin -= 1
            try:
                yield
            finally:
                if self._fetches_to_begin:
                    self._fetch_slots.release()
                elif not self._released:
                    self._fetches_held -= 1
                    self._limiter.fetches.give_back(self.client)
        finally:
            self._waiting_for_servers -= 1

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Do a part of the request's own work in the block. If the request gave its slot back, wait for another."""
        self._working += 1
        try:
            if not self._has_slot:
                await self._wait_for_slot()
            yield
        finally:
            self._working -= 1
            self._give_slot_back_if_idle()

    def grant_slot(self) -> None:
        """Take a slot again. The limiter calls this when there is one."""
        self._limiter.slots.take(self.client)
        self._limiter.waiting.pop(self, None)
        self._has_slot = True
        if self._slot_granted is not None:
            self._slot_granted.set()
            self._slot_granted = None
        self._limiter.on_change()

    async def _wait_for_slot(self) -> None:
        if self._released:
            return
        if self._slot_granted is None:
            self._slot_granted = asyncio.Event()
        granted = self._slot_granted
        self._limiter.waiting[self] = None
        self._limiter.admit_waiting()
        await granted.wait()

    def _give_slot_back_if_idle(self) -> None:
        if self._working == 0 and self._waiting_for_servers and not self._released:
            self._limiter.waiting.pop(self, None)
            if self._has_slot:
                self._give_slot_back()
                self._limiter.on_change()

    def _give_slot_back(self) -> None:
        self._has_slot = False
        self._limiter.slots.give_back(self.client)
        if self._limiter.waiting:
            self._limiter.admit_waiting()


_request: ContextVar[RequestReservation] = ContextVar("request")


def current_request() -> RequestReservation:
    """The reservation of the request that the calling task works for.

    Raises:
        LookupError: the task works for no admitted request.
    """
    return _request.get()


def requester() -> tuple[Hashable, Hashable]:
    """The client and the request that the calling task works for; None for both if it works for none."""
    request = _request.get(None)
    return (None, None) if request is None else (request.client, request)


class InFlightLimiter:
    """Bound the number of requests in flight, the bytes of their bodies and fetched images, and their fetches.

    All calls come from one event loop, so there is no lock.

    Args:
        max_requests: requests of one client in flight.
        max_bytes: the byte budget of one client.
        max_fetches: images that are fetched for one client at once.
        fair: whether clients are told apart. All of them together may then exceed each bound by a quarter.

    Attributes:
        slots, byte_budget, fetches: the three bounds.
        admitted: requests whose responses are not finished, those that wait for other servers included.
        uploading: the requests whose bodies are not complete, in the order of their admission.
        waiting: the requests that have fetched and need a slot again, in the order of their return.
        on_change: called when a request gives its slot back or takes it again.
    """

    def __init__(self, max_requests: int, max_bytes: int, max_fetches: int = 256, *, fair: bool = True) -> None:
        def pool(limit: int) -> FairPool:
            return FairPool(limit, reserve_of(limit) if fair else 0)

        self.slots, self.byte_budget, self.fetches = pool(max_requests), pool(max_bytes), pool(max_fetches)
        self.admitted = 0
        self.uploading: dict[RequestReservation, None] = {}
        self.waiting: dict[RequestReservation, None] = {}
        self.on_change: Callable[[], None] = lambda: None

    @property
    def count(self) -> int:
        """Requests in flight now, without those that only wait for other servers."""
        return self.slots.total

    @property
    def bytes(self) -> int:
        """Bytes that are reserved now."""
        return self.byte_budget.total

    def admit(self, cancel: Callable[[GatewayError], None], client: Hashable = "") -> RequestReservation:
        """Admit one request. The reservation is a context manager, and holds its slot until the block ends.

        Args:
            cancel: called with an `Overloaded` if the request is evicted.
            client: who sent it.

        Raises:
            Overloaded: the maximum of requests is in flight, and none of them can be evicted.
        """
        self.take(self.slots, client, 1)
        self.admitted += 1
        reservation = RequestReservation(self, client, cancel)
        self.uploading[reservation] = None
        return reservation

    def take(self, pool: FairPool, client: Hashable, size: int, requester: Reservation | None = None) -> None:
        """Take units of a pool. If they do not fit, evict requests with slow uploads, the slowest first.

        Of other clients, only those are evicted that hold more of the pool than this one.

        Args:
            requester: the reservation that needs the units.

        Raises:
            Overloaded: no upload is slow enough to evict, or the slowest one is the requester's own.
        """
        while not pool.fits(client, size):
            held = pool.held(client)
            slow = (
                upload
                for upload in self.uploading
                if (upload.client == client or pool.held(upload.client) > held)
                and (pool is self.slots or upload.bytes)
                and upload.seconds_behind >= _GRACE_SECONDS
            )
            slowest = max(slow, key=lambda upload: upload.seconds_behind, default=None)
            if slowest is None:
                raise _refusal(pool, client, size)
            if slowest is requester:
                raise Overloaded(_EVICTED)
            slowest.evict()
        pool.take(client, size)

    def admit_waiting(self) -> None:
        """Give the free slots to the requests that wait for one, first to those that have waited longest."""
        for request in list(self.waiting):
            if self.slots.fits(request.client):
                request.grant_slot()


def reserve_of(limit: int) -> int:
    """Units beyond one client's limit that other clients can have."""
    return max(1, limit // _RESERVE_DIVISOR)


def _refusal(pool: FairPool, client: Hashable, size: int) -> Overloaded:
    return ShareExceeded(_SHARE) if pool.fits_others(client, size) else Overloaded(_BUSY)
