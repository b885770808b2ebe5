"""Measure the CPU time of each callback of an event loop."""

import asyncio
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


class Callbacks:
    """The callbacks that an event loop has run.

    Attributes:
        count: how many.
        longest: seconds of CPU time of the thread that the longest one took. Waiting for the machine is not counted.
    """

    def __init__(self) -> None:
        self.count = 0
        self.longest = 0.0


@contextmanager
def measured() -> Iterator[Callbacks]:
    """Measure every callback of asyncio's own loop during the block."""
    found = Callbacks()
    # As the gateway does at its start: a full collection would take as long as the tests' own objects need.
    gc.collect()
    gc.freeze()
    run = asyncio.Handle._run

    def timed(handle: Any) -> None:
        start = time.thread_time()
        run(handle)
        found.longest = max(found.longest, time.thread_time() - start)
        found.count += 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio.Handle, "_run", timed)
        yield found
    gc.unfreeze()
