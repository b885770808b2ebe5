"""Supervise a running Triton: restart it after a death, and reconcile its models with the repository.

The gateway keeps running meanwhile and responds with 503.
"""

import time
from collections.abc import Callable
from typing import Final

from deploy.embedded.errors import DiedTooOften
from deploy.embedded.events import Event, TritonDied, TritonRestarted
from deploy.embedded.reconciler import Reconciler
from deploy.embedded.restart_policy import MAX_DEATHS, WINDOW_SECONDS, RestartPolicy
from deploy.embedded.signals import Signals
from deploy.embedded.triton_process import TritonProcess, previous_log

_INTERVAL_SECONDS: Final = 1.0
_STARTING_INTERVAL_SECONDS: Final = 0.05


class TritonSupervisor:
    """The supervisor of a Triton that is ready.

    Args:
        triton: the process to supervise.
        reconciler: what keeps the models of that Triton up to date.
        report: called with each event.
    """

    def __init__(self, triton: TritonProcess, reconciler: Reconciler, report: Callable[[Event], None]) -> None:
        self._triton = triton
        self._reconciler = reconciler
        self._report = report
        self._policy = RestartPolicy()
        self._ready = True
        self._died_at = 0.0
        self._restart_at: float | None = None  # set while Triton is dead

    def step(self, signals: Signals) -> float:
        """Do what is due now, and return the seconds until the next step is due.

        Raises:
            DiedTooOften: the restart policy gives up.
        """
        now = time.monotonic()
        if self._restart_at is None and self._triton.status is not None:
            self._schedule_restart(now, signals)
        if self._restart_at is not None:
            if now < self._restart_at:
                return self._restart_at - now
            self._restart_at = None
            self._triton.start()
        index = self._triton.index()
        if index is None:
            return _INTERVAL_SECONDS if self._ready else _STARTING_INTERVAL_SECONDS
        if not self._ready:
            self._ready = True
            self._reconciler.triton_restarted()
            self._report(TritonRestarted(time.monotonic() - self._died_at))
        for event in self._reconciler.step(index):
            self._report(event)
        return _INTERVAL_SECONDS

    def _schedule_restart(self, now: float, signals: Signals) -> None:
        """Clean up after a death, and decide when Triton starts again."""
        status = self._triton.status
        assert status is not None
        self._triton.clean_up(signals)
        pause = self._policy.next_pause(now, self._ready)
        if pause is None:
            raise DiedTooOften("Triton", MAX_DEATHS, WINDOW_SECONDS, status, self._triton.tail(), self._triton.log)
        if self._ready:
            self._died_at = now
        self._ready = False
        self._restart_at = now + pause
        log = self._triton.log
        self._report(TritonDied(status, pause, log and previous_log(log)))
