"""Wait for stop signals and for the end of child processes."""

import os
import select
import signal
from types import FrameType, TracebackType
from typing import Final, Self

_STOP: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequested(Exception):
    """A stop signal came: SIGINT (Ctrl-C), SIGTERM, or SIGHUP (the terminal was closed)."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class Signals:
    """A context in which stop signals are only recorded. Only `wait` and `check` raise, never a line in between.

    with Signals() as signals:
        signals.wait(0.1)   # raises StopRequested; returns early when a child ends
    """

    def __init__(self) -> None:
        self.received: list[int] = []

    def __enter__(self) -> Self:
        # The pipe makes a signal between a check and the following sleep end that sleep.
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._previous_wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._previous = {
            signum: signal.signal(signum, self._note)
            for signum in (*_STOP, signal.SIGCHLD)
            # A program under nohup must not stop when the terminal closes.
            if not (signum == signal.SIGHUP and signal.getsignal(signum) == signal.SIG_IGN)
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        signal.set_wakeup_fd(self._previous_wakeup)
        os.close(self._read)
        os.close(self._write)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if signum in _STOP:
            self.received.append(signum)

    def check(self) -> None:
        """Raise `StopRequested` if a stop signal came."""
        if self.received:
            raise StopRequested(self.received[0])

    def wait(self, seconds: float) -> None:
        """Sleep until a child ends, at most these seconds. Raise `StopRequested` if a stop signal came or comes."""
        self.check()
        self.pause(seconds)
        self.check()

    def pause(self, seconds: float) -> None:
        """Sleep like `wait`, but never raise. Used while stopping."""
        select.select([self._read], [], [], seconds)
        try:
            while os.read(self._read, 4096):
                pass
        except BlockingIOError:
            pass
