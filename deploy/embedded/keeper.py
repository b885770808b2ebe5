"""Keeps Triton running, and what it serves up to date; the gateway stays up meanwhile, and says 503."""

import time
from collections.abc import Callable

from deploy.embedded.errors import DiedTooOften
from deploy.embedded.events import Event, TritonBack, TritonDied
from deploy.embedded.follower import Follower
from deploy.embedded.restarts import DEATHS, WITHIN_S, Restarts
from deploy.embedded.signals import Signals
from deploy.embedded.triton import Triton, previous

_LOOK_S = 1.0
_SOON_S = 0.05


class Keeper:
    """From a Triton that is ready to the end. `tell` is called for what a person may want to know."""

    def __init__(self, triton: Triton, follower: Follower, tell: Callable[[Event], None]) -> None:
        self._triton = triton
        self._follower = follower
        self._tell = tell
        self._restarts = Restarts()
        self._ready = True
        self._died = 0.0
        self._start_at: float | None = None  # once it is dead

    def step(self, signals: Signals) -> float:
        """Does what is to be done now; returns the seconds after which it wants to be called again.

        Raises DiedTooOften.
        """
        now = time.monotonic()
        if self._start_at is None and self._triton.status is not None:
            self._bury(now, signals)
        if self._start_at is not None:
            if now < self._start_at:
                return self._start_at - now
            self._start_at = None
            self._triton.start()
        index = self._triton.index()
        if index is None:
            return _LOOK_S if self._ready else _SOON_S
        if not self._ready:
            self._ready = True
            self._follower.expect_all()
            self._tell(TritonBack(time.monotonic() - self._died))
        for event in self._follower.step(index):
            self._tell(event)
        return _LOOK_S

    def _bury(self, now: float, signals: Signals) -> None:
        status = self._triton.status
        assert status is not None
        self._triton.clear_away(signals)
        pause = self._restarts.died(now, self._ready)
        if pause is None:
            raise DiedTooOften("Triton", DEATHS, WITHIN_S, status, self._triton.tail(), self._triton.log)
        if self._ready:
            self._died = now
        self._ready = False
        self._start_at = now + pause
        log = self._triton.log
        self._tell(TritonDied(status, pause, log and previous(log)))
