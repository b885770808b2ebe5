"""A pe-serve under test, with everything it started."""

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from deploy.embedded import ports

PE_SERVE = (sys.executable, "-m", "deploy.embedded.cli")


def free_port() -> int:
    """A loopback port that nothing listens on."""
    (port,) = ports.free(1)
    return port


class PeServe:
    """A running pe-serve, and everything it started: known by a variable that all of them inherit."""

    def __init__(
        self, directory: Path, *arguments: str | Path, command: Sequence[str] = PE_SERVE, **environment: str
    ) -> None:
        self._mark = f"PE_TEST_RUN={uuid.uuid4()}"
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
        return self._output.read_text(errors="replace")

    def wait_for(self, pattern: str, seconds: float = 60) -> re.Match[str]:
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self.output, re.MULTILINE)):
            assert time.monotonic() < end, f"no {pattern!r} in\n{self.output}"
            assert self.process.poll() is None, f"ended before {pattern!r}:\n{self.output}"
            time.sleep(0.05)
        return found

    def wait_until_ready(self) -> str:
        """Its base URL."""
        return self.wait_for(r"^Ready on (\S+)")[1]

    def wait(self, seconds: float = 60) -> int:
        """Its exit status."""
        return self.process.wait(seconds)

    def log(self) -> Path:
        """Where its last message says that Triton's log is."""
        return Path(re.findall(r"^Triton's log: (.*)$", self.output, re.MULTILINE)[-1])

    def stop(self, signum: int = signal.SIGTERM) -> int:
        self.process.send_signal(signum)
        return self.wait()

    def processes(self) -> dict[int, str]:
        """Command lines by process id, zombies left out."""
        found = {}
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdecimal() and self._mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue  # it ended meanwhile
        return {pid: command for pid, command in found.items() if command}

    def pid_of(self, part: str) -> int:
        (pid,) = (
            pid
            for pid, command in self.processes().items()
            if part in Path(command.split(" ")[0]).name or f" {part} " in command
        )
        return pid

    def triton_port(self) -> int:
        """Where its Triton answers gRPC."""
        (port,) = {int(port) for port in re.findall(r"--grpc-port=(\d+)", " ".join(self.processes().values()))}
        return port

    def shared_memory(self) -> list[Path]:
        """The segments that its stubs hold."""
        names = re.findall(r"\S+_shm_region_\S+", " ".join(self.processes().values()))
        return [Path("/dev/shm") / name for name in names]

    def wait_until_gone(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while left := self.processes():
            assert time.monotonic() < end, f"still there: {left}"
            time.sleep(0.05)

    def kill(self) -> None:
        for pid in [self.process.pid, *self.processes()]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()
