"""One virtual environment: whether it is up to date, and how it gets there."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.bootstrap.errors import BootstrapError

_STAMP = ".built.json"
_TAIL_LINES = 15
_VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
_NO_NETWORK = (
    "NewConnectionError",
    "Temporary failure in name resolution",
    "Name or service not known",
    "ConnectTimeoutError",
    "Network is unreachable",
    "ProxyError",
)


@dataclass(frozen=True)
class Environment:
    """`layers`: what to call `pip install` with, by name; a target may do without some that another needs.

    `determined_by`: what else decides what those calls install.

    `.built.json` in the directory says what is installed; while it says "building", whatever lies there is half-made.
    """

    root: Path
    name: str
    purpose: str
    layers: Mapping[str, Sequence[Sequence[str]]]
    determined_by: Sequence[Any] = ()

    @property
    def path(self) -> Path:
        return self.root / self.name

    @property
    def python(self) -> Path:
        return self.path / "bin/python"

    def missing(self) -> list[str]:
        """The layers that are not installed as described now."""
        stamp = self._stamp()
        return [layer for layer in self.layers if stamp.get(layer) != self._digest(layer)]

    def build(self, processes: "Processes") -> str:
        """Installs what is missing; returns what was done, for a person.

        Raises BootstrapError. Whatever ends it early, the next call repairs: what is half-made is made anew.
        """
        started = time.monotonic()
        layers = self.missing()
        stamp = self._stamp()
        fresh = not self._usable(stamp)
        if fresh:
            if self.path.exists():
                shutil.rmtree(self.path)
            self.path.mkdir()
            stamp = {}
        self._write_stamp({"building": True})
        if fresh:
            processes.run([_base_python(), "-m", "venv", str(self.path)], f"could not make {self.name}")
        for layer in layers:
            for arguments in self.layers[layer]:
                processes.run(
                    [str(self.python), "-m", "pip", "install", *_QUIET, *arguments], f"{self.name} is unfinished"
                )
            stamp[layer] = self._digest(layer)
        self._write_stamp({**stamp, "place": self._place()})
        return f"{self.name} {'made' if fresh else 'updated'} in {time.monotonic() - started:.0f} s ({self.purpose})"

    def _usable(self, stamp: Mapping[str, Any]) -> bool:
        """Whether it can be added to. One that is half-made, moved, or for another Python can not."""
        if stamp or not self.path.exists():
            return stamp.get("place") == self._place()
        # Not of our making: a person may miss it.
        if not (self.path / "lib" / f"python{_VERSION}").is_dir():
            raise BootstrapError(f"{self.path} is in the way. Remove it, and run this again.")
        return True

    def _place(self) -> str:
        # Scripts in an environment name it by its absolute path, and its packages are for one minor version.
        return f"{self.path} {_VERSION}"

    def _digest(self, layer: str) -> str:
        described = json.dumps([self._place(), self.layers[layer], self.determined_by])
        return hashlib.sha256(described.encode()).hexdigest()

    def _stamp(self) -> dict[str, Any]:
        """Empty if we did not make it."""
        try:
            stamp: dict[str, Any] = json.loads((self.path / _STAMP).read_text())
        except OSError:
            return {}
        return stamp if os.access(self.python, os.X_OK) else {"building": True}

    def _write_stamp(self, stamp: Mapping[str, Any]) -> None:
        written = self.path / (_STAMP + ".new")
        written.write_text(json.dumps(stamp))
        written.replace(self.path / _STAMP)


_QUIET = ("--disable-pip-version-check", "--no-input", "--quiet")


def _base_python() -> str:
    """The running Python, or the one behind it: `make` may run inside the very environment that is made anew."""
    return getattr(sys, "_base_executable", None) or sys.executable


class Processes:
    """Child processes that can all be ended at once."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def run(self, command: Sequence[str], failure: str) -> None:
        """Raises BootstrapError with the end of what the command said."""
        with self._started(command) as process:
            output, _ = process.communicate()
        if process.returncode != 0:
            raise BootstrapError(f"{failure}: {_why(output)}")

    def stop(self) -> None:
        """Ends them with all that they started, and waits; none can be started any more."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, 15)
        for process in tuple(self._running):
            process.wait()

    @contextmanager
    def _started(self, command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
        with self._lock:
            if self._stopped:
                raise BootstrapError("interrupted")
            process = subprocess.Popen(
                command,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                process_group=0,  # so that Ctrl-C reaches us alone, and what it starts (a build) can be ended with it
            )
            self._running.add(process)
        try:
            yield process
        finally:
            with self._lock:
                self._running.discard(process)


def _environment() -> dict[str, str]:
    """Ours, with its package index, without what would make pip install elsewhere."""
    astray = {"PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_DRY_RUN"}
    return {name: value for name, value in os.environ.items() if name not in astray} | {"PIP_USER": "0"}


def _why(output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip() and not line.startswith("WARNING")]
    if any(sign in output for sign in _NO_NETWORK):
        return (
            "the package index cannot be reached.\n"
            f"Check the network, and pip's settings for index and proxy; then run this again. {' '.join(lines[-1:])}"
        )
    return "\n".join(["the end of the output:", *lines[-_TAIL_LINES:]])
