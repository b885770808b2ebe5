"""Show the progress of a long export: a live line on a terminal, and one line for each finished step."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TextIO

from export import resident_memory
from export.files import readable_size

Advance = Callable[[float], None]
"""Callback that receives the finished fraction of a step, from 0 to 1."""

_REFRESH_SECONDS: Final = 0.2
_LOG_SECONDS: Final = 10.0
_BAR_WIDTH: Final = 24


class Progress:
    """Write progress to a stream, and record the seconds and the peak memory, in bytes, of each step by its name.

    Args:
        stream: a terminal, which gets a live line, or another file, which gets a line now and then.
        log_seconds: seconds between the lines of a step in a stream that is no terminal.
    """

    def __init__(self, stream: TextIO = sys.stderr, log_seconds: float = _LOG_SECONDS) -> None:
        self._stream = stream
        self._log_seconds = log_seconds
        self.seconds: dict[str, float] = {}
        self.peak_memory_bytes: dict[str, int] = {}

    def say(self, line: str) -> None:
        """Write a line that remains."""
        self._stream.write(line + "\n")
        self._stream.flush()

    @contextmanager
    def step(self, subject: str, name: str, detail: str = "") -> Iterator[Advance]:
        """Show `subject`, `name` and the elapsed time while the step runs, then write one line that remains.

        A percentage appears when the step first reports progress. A step that raises writes no last line.

        Args:
            subject: what the step works on: a tower, or the weights.
            name: name of the step.
            detail: text at the end of the line that remains.

        Yields:
            A callback that receives the finished fraction of the step.
        """
        label = f"{subject:8} {name:12}"
        start = time.perf_counter()
        fraction = _Fraction()
        terminal = self._stream.isatty()
        ended = threading.Event()

        def draw() -> None:
            while not ended.wait(_REFRESH_SECONDS if terminal else self._log_seconds):
                line = f"{label} {time.perf_counter() - start:7.1f} s  {fraction.shown(bar=terminal)}"
                self._stream.write(f"\r\033[K{line}" if terminal else f"{line}...\n")
                self._stream.flush()

        artist = threading.Thread(target=draw, daemon=True)
        resident_memory.reset_peak()
        artist.start()
        try:
            yield fraction.advance
        finally:
            ended.set()
            artist.join()
            if terminal:
                self._stream.write("\r\033[K")
        self.seconds[name] = time.perf_counter() - start
        self.peak_memory_bytes[name] = resident_memory.peak_bytes()
        peak = readable_size(self.peak_memory_bytes[name])
        self.say(f"{label} {self.seconds[name]:7.1f} s  {peak} in memory  {detail}".rstrip())


class _Fraction:
    """The finished fraction of a step, and the rate since its first report: a resumed download starts in the middle."""

    def __init__(self) -> None:
        self._reports: list[tuple[float, float]] = []  # time and fraction, of the first and of the last report

    def advance(self, done: float) -> None:
        self._reports = [*self._reports[:1], (time.perf_counter(), done)]

    def shown(self, bar: bool) -> str:
        """Return percentage and time left, after a bar if asked; empty before the first report."""
        if not self._reports:
            return ""
        (first, before), (_, done) = self._reports[0], self._reports[-1]
        elapsed = time.perf_counter() - first  # Until now, not until the last report: that may be long ago.
        filled = round(done * _BAR_WIDTH)
        drawn = f"[{'#' * filled}{' ' * (_BAR_WIDTH - filled)}] " if bar else ""
        left = f", about {(1 - done) * elapsed / (done - before):.0f} s left" if before < done < 1 else ""
        return f"{drawn}{done:4.0%}{left} "
