"""One child process that ends with us, whatever ends us."""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from deploy.embedded.errors import ProcessDied, ProcessNotReady
from deploy.embedded.signals import Signals

_TAIL_BYTES = 16_384
_TAIL_LINES = 20
_GRACE_S = 3.0
_KILLED_S = 5.0  # the kernel takes a moment to tear down a large process, and until then it holds what it has mapped
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


class Child:
    """A child in a process group of its own: a terminal's Ctrl-C reaches us alone, and we choose the order of the end.

    Output goes to `log`, or to our own terminal if that is None.
    """

    def __init__(
        self, name: str, command: Sequence[str | Path], environment: Mapping[str, str], log: Path | None
    ) -> None:
        self.name = name
        self.log = log
        output = None if log is None else log.open("wb")
        try:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output and subprocess.STDOUT,
                process_group=0,
                preexec_fn=_end_with(os.getpid()),
            )
        finally:
            if output is not None:
                output.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def status(self) -> int | None:
        """None while it runs, then as in subprocess: negative for a signal."""
        return self._process.poll()

    def require_alive(self) -> None:
        """Raises ProcessDied."""
        if self.status is not None:
            raise ProcessDied(self.name, self.status, self.tail(), self.log)

    def not_ready(self, seconds: float) -> ProcessNotReady:
        """The error to raise when it did not answer in these seconds, with the end of its log."""
        return ProcessNotReady(self.name, seconds, self.tail(), self.log)

    def tail(self) -> str:
        """The last lines of its log."""
        if self.log is None:
            return ""
        with self.log.open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - _TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
        return "\n".join(lines[-_TAIL_LINES:])

    def stop(self, signals: Signals, patience: float) -> None:
        """SIGTERM; SIGKILL after `patience` seconds, or at once on a second Ctrl-C. Leaves nothing of its group."""
        asked_before = len(signals.received)
        if self._process.poll() is None:
            self._process.terminate()
        end = time.monotonic() + patience
        while self._process.poll() is None and time.monotonic() < end and len(signals.received) <= max(1, asked_before):
            signals.pause(0.1)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self.end_group(signals)

    def end_group(self, signals: Signals, grace: float = _GRACE_S) -> None:
        """Its own children notice its end by themselves (Triton's stubs do within a second); help those that do not."""
        end = time.monotonic() + grace
        while _signal_group(self.pid, 0) and time.monotonic() < end:
            signals.pause(0.05)
        end = time.monotonic() + _KILLED_S
        while _signal_group(self.pid, signal.SIGKILL) and time.monotonic() < end:
            time.sleep(0.01)


def adopt_orphans() -> None:
    """From now on a child's orphans become ours, not those of process 1, which in a container may never reap them."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _signal_group(group: int, signum: int) -> bool:
    """Whether the group still had a process."""
    with suppress(ChildProcessError):
        while os.waitpid(-group, os.WNOHANG)[0]:
            pass
    try:
        os.killpg(group, signum)
    except ProcessLookupError:
        return False
    return True


def _end_with(parent: int) -> Callable[[], None]:
    def before_exec() -> None:
        # The kernel sends SIGTERM when we die, even by SIGKILL; if we died before this line, it is too late for that.
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return before_exec
