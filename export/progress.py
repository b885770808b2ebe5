"""What a long export is doing, on a terminal as it happens; in a log, one line for each step when it is done."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from export import memory
from export.files import readable_size

Advance = Callable[[float], None]
"""Told what part of a step is done, from 0 to 1."""

_REFRESH_SECONDS = 0.2
_BAR_WIDTH = 24


class Progress:
    """Writes to one stream; remembers what each step took."""

    def __init__(self, stream: TextIO = sys.stderr) -> None:
        self._stream = stream
        self.seconds: dict[str, float] = {}
        self.peak_memory_bytes: dict[str, int] = {}

    def say(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()

    @contextmanager
    def step(self, subject: str, name: str, detail: str = "") -> Iterator[Advance]:
        """Shows `subject`, `name` and a bar, or only the time if nothing advances it; then the line that stays."""
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
        memory.forget_peak()
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
        self.peak_memory_bytes[name] = memory.peak_bytes()
        self.say(
            f"{label} {self.seconds[name]:7.1f} s  {readable_size(memory.peak_bytes())} in memory  {detail}".rstrip()
        )
