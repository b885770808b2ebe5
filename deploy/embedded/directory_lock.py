"""A lock in the directory of a run. It tells directories that a killed run left behind from those in use."""

import fcntl
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_LOCK: Final = "lock"


@contextmanager
def locked(directory: Path, prefix: str, stale_seconds: float) -> Iterator[None]:
    """Lock a directory, and remove stale directories beside it.

    Args:
        directory: of this run.
        prefix: how the names of such directories begin.
        stale_seconds: the age from which an unlocked directory is stale. A younger one may belong to a run that has not
            locked it yet.
    """
    with (directory / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for other in directory.parent.glob(f"{prefix}*"):
            with suppress(OSError), (other / _LOCK).open("r") as held:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # OSError if that run is alive
                if time.time() - other.stat().st_mtime > stale_seconds:
                    shutil.rmtree(other)
        yield
