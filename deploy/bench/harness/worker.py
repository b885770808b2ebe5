"""Processes that measure one thing when asked: a JSON line in, a JSON line out.

They live for the whole run, so that taking turns costs no start, and sleep while others are measured.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class HelperFailed(Exception):
    """A helper ended, or said what was in its way."""


class Helper:
    """A context manager: it ends with the block."""

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

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, **question: Any) -> dict[str, Any]:
        """Raises HelperFailed."""
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise HelperFailed(f"{self._name} ended with status {self._process.wait(10)}")
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise HelperFailed(f"{self._name}: {answer['failed']}")
        return answer

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


def python_helper(module: str) -> Helper:
    """A module of this package, in this very environment."""
    return Helper([sys.executable, "-m", f"deploy.bench.{module}"])


def answer_forever(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """The other side of ``ask``, until the asker is gone."""
    for line in sys.stdin:
        try:
            reply = answer(json.loads(line))
        except Exception as error:
            reply = {"failed": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()
