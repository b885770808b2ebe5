"""What one request cost, stage by stage."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

STAGES: Final = ("fetch", "queue", "decode", "preprocess", "tokenize", "encode", "similarity")
"""``queue`` is the wait for a decoding thread; the wait for Triton's batcher is part of ``encode``."""


class Stages:
    """Seconds that one request spent in each stage, and how much it asked for.

    Images of one request are decoded side by side: a stage's seconds are summed over items, so together they may exceed
    the request's own duration.

    ``items``: images and texts of the request. ``batches``: what was sent to Triton, as tower and size.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.items = 0
        self.batches: list[tuple[str, int]] = []

    def add(self, stage: str, seconds: float) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Adds the time that passes within."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - start)

    def server_timing(self, total: float) -> str:
        """As in https://www.w3.org/TR/server-timing/: milliseconds by stage, in order, and in all."""
        entries = [f"{stage};dur={self.seconds[stage] * 1e3:.2f}" for stage in STAGES if stage in self.seconds]
        return ", ".join([*entries, f"total;dur={total * 1e3:.2f}"])
