"""The time that a request spends in each stage."""

import time
from typing import Final

STAGES: Final = ("fetch", "queue", "decode", "preprocess", "tokenize", "encode", "similarity")
"""`queue` is the wait for a decoding process. `encode` includes the wait for Triton's batcher."""


class Stages:
    """The seconds that one request spent in each stage, and its size.

    Images of one request are decoded in parallel, and a stage's seconds are summed over items. So the stages may add up
    to more than the duration of the request.

    Attributes:
        seconds: by stage.
        items: the number of images and texts in the request.
        batches: the batches sent to Triton, as pairs of tower and size.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.items = 0
        self.batches: list[tuple[str, int]] = []

    def add(self, stage: str, seconds: float) -> None:
        """Add seconds to a stage."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def measure(self, stage: str) -> "_Measurement":
        """Add the duration of the `with` block to a stage."""
        return _Measurement(self, stage)

    def server_timing(self, total: float) -> str:
        """Format a `Server-Timing` header (https://www.w3.org/TR/server-timing/): milliseconds by stage, and total."""
        entries = [f"{stage};dur={self.seconds[stage] * 1e3:.2f}" for stage in STAGES if stage in self.seconds]
        return ", ".join([*entries, f"total;dur={total * 1e3:.2f}"])


class _Measurement:
    """A `with` block whose duration is added to a stage. `contextlib.contextmanager` takes three times as long."""

    __slots__ = ("_stage", "_stages", "_start")

    def __init__(self, stages: Stages, stage: str) -> None:
        self._stages = stages
        self._stage = stage

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._stages.add(self._stage, time.perf_counter() - self._start)
