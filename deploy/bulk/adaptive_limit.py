"""How many requests may be in flight: more while the server keeps up, half as many when it refuses one."""

import asyncio
import time
from collections import deque
from typing import Final

# Above, more requests in flight only wait longer at the server, and its deadline (30 s by default) comes near.
_SLOW_SECONDS: Final = 5.0


class AdaptiveLimit:
    """A semaphore whose limit adapts, like TCP's congestion window: additive increase, multiplicative decrease.

    Up to the first refusal, the limit doubles about once in the time of a request. After that, it grows by one in that
    time.

    Args:
        start: the first limit.
        most: the highest one.
    """

    def __init__(self, start: int = 4, most: int = 96) -> None:
        self._limit = float(start)
        self._most = most
        self._refused = False
        self._decreased = 0.0
        self._in_flight = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def limit(self) -> int:
        """How many requests may be in flight now."""
        return int(self._limit)

    async def acquire(self, *, again: bool = False) -> None:
        """Wait for a slot, first come, first served.

        Args:
            again: the request was sent before, at least in part. It gets the next slot, because rows of later items
                wait for it.
        """
        if self._in_flight < self.limit and not self._waiting:
            self._in_flight += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (self._waiting.appendleft if again else self._waiting.append)(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()
            raise

    def release(self) -> None:
        """Give a slot back."""
        self._in_flight -= 1
        self._wake()

    def succeeded(self, seconds: float) -> None:
        """Count a request that was answered after `seconds`. Raise the limit if all of it was in use."""
        if self._in_flight < self.limit or seconds > _SLOW_SECONDS:
            return
        self._limit = min(self._most, self._limit + (1 / self._limit if self._refused else 1))
        self._wake()

    def refused(self, started: float) -> None:
        """Halve the limit, but only once for all requests that were in flight together.

        Args:
            started: when the refused request was sent, by `time.monotonic()`.
        """
        if started < self._decreased:
            return
        self._refused = True
        self._decreased = time.monotonic()
        self._limit = max(1.0, self._limit / 2)

    def _wake(self) -> None:
        while self._waiting and self._in_flight < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self._in_flight += 1
                turn.set_result(None)
