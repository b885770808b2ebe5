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
_BAR_WIDTH: Final = 24


class Progress:
    """Write progress to a stream, and record the seconds and the peak memory, in bytes, of each step by its name."""

    def __init__(self, stream: TextIO = sys.stderr) -> None:
        self._stream = stream
        self.seconds: dict[str, float] = {}
        self.peak_memory_bytes: dict[str, int] = {}

    def say(self, line: str) -> None:
        """Write a line that remains."""
        self._stream.write(line + "\n")
        self._stream.flush()

    @contextmanager
    def step(self, subject: str, name: str, detail: str = "") -> Iterator[Advance]:
        """Show `subject`, `name` and the elapsed time while the step runs, then write one line that remains.

        A progress bar appears when the step first reports progress. A step that raises writes no line.

        Args:
            subject: what the step works on: a tower, or the weights.
            name: name of the step.
            detail: text at the end of the line that remains.

        Yields:
            A callback that receives the finished fraction of the step.
        """
        label = f"{subject:8} {name:12}"
        start = time.perf_counter()
        done = 0.0

        def advance(part: float) -> None:
            nonlocal done
            done = part

        ended = threading.Event()

        def draw() -> None:
            while not ended.wait(_REFRESH_SECONDS):
                filled = round(done * _BAR_WIDTH)
                bar = f"[{'#' * filled}{' ' * (_BAR_WIDTH - filled)}]" if done else ""
                self._stream.write(f"\r\033[K{label} {time.perf_counter() - start:7.1f} s  {bar}")
                self._stream.flush()

        artist = threading.Thread(target=draw, daemon=True) if self._stream.isatty() else None
        resident_memory.reset_peak()
        if artist:
            artist.start()
        try:
            yield advance
        finally:
            ended.set()
            if artist:
                artist.join()
                self._stream.write("\r\033[K")
        self.seconds[name] = time.perf_counter() - start
        self.peak_memory_bytes[name] = resident_memory.peak_bytes()
        peak = readable_size(self.peak_memory_bytes[name])
        self.say(f"{label} {self.seconds[name]:7.1f} s  {peak} in memory  {detail}".rstrip())
