"""Several processes on one listening socket: started, started again when they die, told to stop, waited for.

uvicorn has a supervisor, too; but that one does not hear a second signal, and its workers outlive it.
"""

import ctypes
import logging
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Final

FAILED_TO_START: Final = 3  # uvicorn's exit status for an app that it could not start

_TICK_SECONDS: Final = 0.2
# One that dies as soon as it is started is not to keep a CPU busy with that.
_RESTART_SECONDS: Final = 1.0
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h

_log = logging.getLogger(__name__)


class Workers:
    """So many processes that run ``work(listener)``, which must return soon after SIGTERM.

    Args:
        work: a module's own function, for it is looked up by name in a new interpreter.
    """

    def __init__(self, count: int, work: Callable[[socket.socket], None], listener: socket.socket) -> None:
        self._work = work
        self._listener = listener
        # A fork would share what no two processes can, gRPC's threads above all.
        self._context = multiprocessing.get_context("spawn")
        self._signals = 0
        self._started = [0.0] * count
        self._processes: list[BaseProcess] = []

    def run(self) -> int:
        """The exit status. The first SIGTERM or SIGINT is passed on to all, the second kills them."""
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._note)
        self._processes = [self._start(place) for place in range(len(self._started))]
        told = status = 0
        while any(process.is_alive() for process in self._processes) or not told:
            wait([process.sentinel for process in self._processes], timeout=_TICK_SECONDS)
            if not told and not self._signals:
                status = self._replace_dead()
            if status and not self._signals:
                self._signals = 1
            if self._signals > told:
                self._tell(kill=told > 0)
                told = self._signals
        return status or (0 if told == 1 else 1)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self._signals += 1

    def _tell(self, kill: bool) -> None:
        self._listener.close()  # or clients would wait in a queue that nobody looks at after the last worker
        for process in self._processes:
            if process.is_alive():
                process.kill() if kill else process.terminate()

    def _replace_dead(self) -> int:
        """0, or the exit status that a worker gave because it could not start."""
        for place, process in enumerate(self._processes):
            if process.is_alive():
                continue
            if process.exitcode == FAILED_TO_START:
                return FAILED_TO_START
            if time.monotonic() >= self._started[place] + _RESTART_SECONDS:
                _log.error("Worker %d died (exit status %s) and is started again", process.pid, process.exitcode)
                self._processes[place] = self._start(place)
        return 0

    def _start(self, place: int) -> BaseProcess:
        self._started[place] = time.monotonic()
        process = self._context.Process(target=_run, args=(self._work, self._listener, os.getpid()))
        process.start()
        return process


def _run(work: Callable[[socket.socket], None], listener: socket.socket, parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)  # whatever ends the supervisor ends its workers
    if os.getppid() != parent:
        sys.exit(1)
    work(listener)
