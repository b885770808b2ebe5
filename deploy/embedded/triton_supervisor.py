"""Keeps Triton running, and what it serves up to date; the gateway stays up meanwhile, and says 503."""

import time
from collections.abc import Callable

from deploy.embedded.errors import DiedTooOften
from deploy.embedded.events import Event, TritonBack, TritonDied
from deploy.embedded.repository_watcher import RepositoryWatcher
from deploy.embedded.restart_policy import DEATHS, WITHIN_S, RestartPolicy
from deploy.embedded.signals import Signals
from deploy.embedded.triton_process import Triton, previous

_LOOK_S = 1.0
_SOON_S = 0.05


class TritonSupervisor:
    """From a Triton that is ready to the end. `report` is called for what a person may want to know."""

    def __init__(self, triton: Triton, watcher: RepositoryWatcher, report: Callable[[Event], None]) -> None:
        self._triton = triton
        self._watcher = watcher
        self._report = report
        self._restarts = RestartPolicy()
        self._ready = True
        self._died = 0.0
        self._start_at: float | None = None  # once it is dead

    def step(self, signals: Signals) -> float:
        """Does what is to be done now; returns the seconds after which it wants to be called again.

        Raises DiedTooOften.
        """
        now = time.monotonic()
        if self._start_at is None and self._triton.status is not None:
            self._handle_death(now, signals)
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
            self._watcher.expect_all()
            self._report(TritonBack(time.monotonic() - self._died))
        for event in self._watcher.step(index):
            self._report(event)
        return _LOOK_S

    def _handle_death(self, now: float, signals: Signals) -> None:
        status = self._triton.status
        assert status is not None
        self._triton.clean_up(signals)
        pause = self._restarts.died(now, self._ready)
        if pause is None:
            raise DiedTooOften("Triton", DEATHS, WITHIN_S, status, self._triton.tail(), self._triton.log)
        if self._ready:
            self._died = now
        self._ready = False
        self._start_at = now + pause
        log = self._triton.log
        self._report(TritonDied(status, pause, log and previous(log)))
