"""Run `pe-serve` in tests, and account for every process that it starts."""

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from deploy.embedded import ports

PE_SERVE: Final = (sys.executable, "-m", "deploy.embedded.cli")


def free_port() -> int:
    """Return a loopback port that nothing listens on."""
    (port,) = ports.free(1)
    return port


def through_shell(command: Sequence[str], script: str, argument: str | Path = "") -> tuple[str, ...]:
    """Return a command that runs a bash script with `$0`, whose `exec "$@"` becomes `command`."""
    return ("bash", "-c", script, str(argument), *command)


def with_own_mounts(command: Sequence[str], script: str, argument: str | Path = "") -> tuple[str, ...]:
    """Like `through_shell`, with mounts that no other process sees. Skip the test if this user may not have them."""
    trial = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    if subprocess.run(trial, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount")
    return ("unshare", "--mount", *through_shell(command, script, argument))


class PeServe:
    """A running `pe-serve` with every process that it started. All of them inherit a variable that marks them.

    Args:
        directory: a directory for its output and its cache.
        arguments: its command line.
        command: the program.
        environment: additional environment variables.
    """

    def __init__(
        self, directory: Path, *arguments: str | Path, command: Sequence[str] = PE_SERVE, **environment: str
    ) -> None:
        self._mark = f"PE_TEST_RUN={uuid.uuid4()}"
        self.directory = directory
        self._output = directory / "output.txt"
        name, value = self._mark.split("=")
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, *arguments],
                env={**os.environ, "XDG_CACHE_HOME": str(directory / "cache"), name: value, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        """What it printed so far, stdout and stderr."""
        return self._output.read_text(errors="replace")

    def wait_for(self, pattern: str, seconds: float = 60) -> re.Match[str]:
        """Wait until a line of its output matches; fail if it ends before."""
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self.output, re.MULTILINE)):
            assert time.monotonic() < end, f"no {pattern!r} in\n{self.output}"
            assert self.process.poll() is None, f"ended before {pattern!r}:\n{self.output}"
            time.sleep(0.05)
        return found

    def wait_until_ready(self) -> str:
        """Wait for the banner, and return the base URL."""
        return self.wait_for(r"^Ready on (\S+)")[1]

    def wait(self, seconds: float = 60) -> int:
        """Wait for its end, and return the exit status."""
        return self.process.wait(seconds)

    def log(self) -> Path:
        """Return the path of Triton's log that its last message names."""
        return Path(re.findall(r"^Triton's log: (.*)$", self.output, re.MULTILINE)[-1])

    def stop(self, signum: int = signal.SIGTERM) -> int:
        """Send a signal, wait for its end, and return the exit status."""
        self.process.send_signal(signum)
        return self.wait()

    def processes(self) -> dict[int, str]:
        """Return the command lines by process id, without zombies."""
        found = {}
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdecimal() and self._mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue  # the process ended during the loop
        return {pid: command for pid, command in found.items() if command}

    def pid_of(self, part: str) -> int:
        """Return the id of the one process whose program or arguments contain `part`."""
        end = time.monotonic() + 20
        while True:
            found = [
                pid
                for pid, command in self.processes().items()
                if part in Path(command.split(" ")[0]).name or f" {part} " in command
            ]
            if len(found) == 1:
                return found[0]
            # A process that was forked has its parent's arguments until it executes its own program.
            assert time.monotonic() < end, f"{part}: {found}"
            time.sleep(0.05)

    def triton(self) -> str:
        """Return the gRPC target of its Triton."""
        (target,) = set(re.findall(r"--grpc-address=(\S+) --grpc-port=(\d+)", " ".join(self.processes().values())))
        return ":".join(target)

    def shared_memory(self) -> list[Path]:
        """Return the shared-memory segments of its stubs."""
        names = re.findall(r"\S+_shm_region_\S+", " ".join(self.processes().values()))
        return [Path("/dev/shm") / name for name in names]

    def wait_until_gone(self, seconds: float) -> None:
        """Wait until none of its processes is left."""
        end = time.monotonic() + seconds
        while left := self.processes():
            assert time.monotonic() < end, f"still there: {left}"
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill all of its processes."""
        for pid in [self.process.pid, *self.processes()]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()
