"""A child process that ends when this process ends, even by SIGKILL."""

import ctypes
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from deploy.embedded.errors import ProcessDied, ProcessNotReady
from deploy.embedded.signals import Signals

_TAIL_BYTES: Final = 16_384
_TAIL_LINES: Final = 20
_GRACE_SECONDS: Final = 3.0
# The kernel takes a moment to tear down a large process, which keeps its memory mapped until then.
_KILLED_SECONDS: Final = 5.0
_END_WITH_PARENT: Final = Path(__file__).with_name("end_with_parent.py")
_PR_SET_CHILD_SUBREAPER: Final = 36  # linux/prctl.h
_libc: Final = ctypes.CDLL(None, use_errno=True)


class Child:
    """A child process in a process group of its own.

    A terminal's Ctrl-C reaches only this process, so this process controls the order in which its children end.

    Args:
        name: its name in messages.
        command: the program and its arguments.
        environment: its environment variables.
        log: the file for its output; None for our own terminal. The output is dropped if the file cannot be made.
        directory: its current directory; None for our own.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        environment: Mapping[str, str],
        log: Path | None,
        directory: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        if shutil.which(command[0]) is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(command[0]))
        output = None if log is None else _open_log(log)
        try:
            self._process = subprocess.Popen(
                ending_with_this_process(command),
                env=environment,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output and subprocess.STDOUT,
                process_group=0,
            )
        finally:
            if output is not None:
                output.close()

    @property
    def pid(self) -> int:
        """The process id, which is also the id of its process group."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """None while it runs, then the exit status as in `subprocess`: negative for a signal."""
        return self._process.poll()

    def require_alive(self) -> None:
        """Raise `ProcessDied` if it ended."""
        if self.status is not None:
            raise ProcessDied(self.name, self.status, self.tail(), self.log)

    def not_ready(self, seconds: float) -> ProcessNotReady:
        """Return the error for a process that is not ready after these seconds, with the end of its log."""
        return ProcessNotReady(self.name, seconds, self.tail(), self.log)

    def tail(self) -> str:
        """Return the last lines of its log."""
        if self.log is None:
            return ""
        with suppress(OSError), self.log.open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - _TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
            return "\n".join(lines[-_TAIL_LINES:])
        return ""

    def stop(self, signals: Signals, patience: float, grace: float = _GRACE_SECONDS) -> None:
        """Stop it by SIGTERM, then kill what is left of its process group.

        Args:
            signals: the stop signals; a second one during the stop kills the process at once.
            patience: seconds from SIGTERM to SIGKILL.
            grace: as for `kill_group`.
        """
        received_before = len(signals.received)
        if self._process.poll() is None:
            self._process.terminate()
        end = time.monotonic() + patience
        while (
            self._process.poll() is None and time.monotonic() < end and len(signals.received) <= max(1, received_before)
        ):
            signals.pause(0.1)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self.kill_group(signals, grace)

    def kill_group(self, signals: Signals, grace: float) -> None:
        """Kill the processes of its group that still run.

        Args:
            signals: interrupts the waits when a child ends.
            grace: seconds to wait before. Triton's stubs notice within a second that Triton ended, and clean up.
        """
        end = time.monotonic() + grace
        while _signal_group(self.pid, 0) and time.monotonic() < end:
            signals.pause(0.05)
        end = time.monotonic() + _KILLED_SECONDS
        while _signal_group(self.pid, signal.SIGKILL) and time.monotonic() < end:
            time.sleep(0.01)


def ending_with_this_process(command: Sequence[str | Path]) -> list[str | Path]:
    """Return the command that runs `command` until it ends, or this process does. The process id stays the same."""
    return [sys.executable, "-I", "-S", _END_WITH_PARENT, str(os.getpid()), *command]


def _open_log(path: Path) -> BinaryIO:
    try:
        return path.open("wb")
    except OSError:
        return open(os.devnull, "wb")


def adopt_orphans() -> None:
    """Become the parent of orphaned descendants. Process 1 of a container may never reap them."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _signal_group(group: int, signum: int) -> bool:
    """Send a signal to a process group, and return whether the group still had a process."""
    with suppress(ChildProcessError):
        while os.waitpid(-group, os.WNOHANG)[0]:
            pass
    try:
        os.killpg(group, signum)
    except ProcessLookupError:
        return False
    return True
