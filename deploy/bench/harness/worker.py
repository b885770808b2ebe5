"""Worker processes that measure one thing per request: one JSON line in, one JSON line out.

A worker lives for the whole run, so that alternating between measurements costs no start, and sleeps in between.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class WorkerFailed(Exception):
    """A worker process ended, or reported an error."""


class Worker:
    """A worker process, as a context manager that ends the process."""

    def __init__(self, command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> None:
        self._name = str(command[-1])
        self._process = subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
            process_group=0,
        )

    def request(self, **fields: Any) -> dict[str, Any]:
        """Send one request and wait for its reply.

        Raises:
            WorkerFailed: the process ended, or replied with an error.
        """
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(json.dumps(fields) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerFailed(f"{self._name} ended with status {self._process.wait(10)}")
        reply: dict[str, Any] = json.loads(line)
        if "failed" in reply:
            raise WorkerFailed(f"{self._name}: {reply['failed']}")
        return reply

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(30)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()


def module_worker(module: str) -> Worker:
    """Start a module of `deploy.bench` as a worker, in the current environment."""
    return Worker([sys.executable, "-m", f"deploy.bench.{module}"])


def load_generator() -> Worker:
    """Start the load generator as a worker. `load_generator.Spec` lists the fields of a request."""
    return module_worker("harness.load_generator")


def serve(handle: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answer requests from standard input until it closes. Exceptions become replies of failure."""
    for line in sys.stdin:
        try:
            reply = handle(json.loads(line))
        except Exception as error:
            reply = {"failed": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()
