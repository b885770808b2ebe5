"""Run several worker processes on the same listening sockets: start, restart, and stop them.

uvicorn's own supervisor is not used, because it ignores a second signal, and its workers outlive it.
"""

import logging
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Final

from gateway.parent_death import end_with_parent

FAILED_TO_START: Final = 3  # uvicorn's exit status for an app that could not start

_TICK_SECONDS: Final = 0.2
# A worker that dies at once must not be restarted in a busy loop.
_MIN_SECONDS_BETWEEN_STARTS: Final = 1.0

_log = logging.getLogger(__name__)


Work = Callable[[Sequence[socket.socket]], None]


class Supervisor:
    """Runs `count` processes that call `work(listeners)`. `work` must return soon after SIGTERM.

    Args:
        count: the number of workers.
        work: a function at module level, because a new interpreter imports it by name.
        listeners: the listening sockets.
    """

    def __init__(self, count: int, work: Work, listeners: Sequence[socket.socket]) -> None:
        self._work = work
        self._listeners = listeners
        # gRPC's threads do not survive a fork.
        self._context = multiprocessing.get_context("spawn")
        self._signals = 0
        self._started = [0.0] * count
        self._processes: list[BaseProcess] = []

    def run(self) -> int:
        """Run until all workers have ended. The first SIGTERM or SIGINT terminates the workers, the second kills them.

        Returns:
            The exit status of the process.
        """
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._count_signal)
        self._processes = [self._start(index) for index in range(len(self._started))]
        handled = status = 0
        while any(process.is_alive() for process in self._processes) or not handled:
            wait([process.sentinel for process in self._processes], timeout=_TICK_SECONDS)
            if not handled and not self._signals:
                status = self._restart_dead()
            if status and not self._signals:
                self._signals = 1  # As after a signal: no worker would start.
            if self._signals > handled:
                self._stop_workers(kill=handled > 0)
                handled = self._signals
        return status or (0 if handled == 1 else 1)

    def _count_signal(self, signum: int, frame: FrameType | None) -> None:
        self._signals += 1

    def _stop_workers(self, kill: bool) -> None:
        # Otherwise, new connections would wait in the backlog of a socket that no worker reads any more.
        for listener in self._listeners:
            listener.close()
        for process in self._processes:
            if process.is_alive():
                process.kill() if kill else process.terminate()

    def _restart_dead(self) -> int:
        """Restart workers that died. Returns `FAILED_TO_START` if a worker's app could not start, otherwise 0."""
        for index, process in enumerate(self._processes):
            if process.is_alive():
                continue
            if process.exitcode == FAILED_TO_START:
                return FAILED_TO_START
            if time.monotonic() >= self._started[index] + _MIN_SECONDS_BETWEEN_STARTS:
                _log.error("Worker %d died (exit status %s). Restarting it.", process.pid, process.exitcode)
                self._processes[index] = self._start(index)
        return 0

    def _start(self, index: int) -> BaseProcess:
        self._started[index] = time.monotonic()
        process = self._context.Process(target=_run, args=(self._work, self._listeners, os.getpid()))
        process.start()
        return process


def _run(work: Work, listeners: Sequence[socket.socket], parent: int) -> None:
    end_with_parent(parent, signal.SIGTERM)
    work(listeners)
