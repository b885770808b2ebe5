"""A directory for the files of one run: Triton's log, and what Triton needs laid out in its own way."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_KEEP_LOGS_S = 24 * 3600


def cache() -> Path:
    """The user's cache directory for this project."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "perception-encoder-server"


@contextmanager
def run_directory(parent: Path) -> Iterator[Path]:
    """Removed on the way out; after an error kept for a day, since the message names the log in it.

    It lies in the cache directory, not in /tmp, because an executable is laid there and /tmp is often mounted noexec.
    Where there is no cache directory to write to, it lies in /tmp after all.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        path = Path(tempfile.mkdtemp(prefix="run-", dir=parent))
    except OSError:
        path = Path(tempfile.mkdtemp(prefix="pe-serve-"))
    with (path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _sweep(path.parent)
        try:
            yield path
        except Exception:
            for entry in path.iterdir():
                if entry.suffix != ".log" and entry.is_dir():
                    shutil.rmtree(entry)
            raise
        shutil.rmtree(path)


def _sweep(parent: Path) -> None:
    """Removes the directories of runs that ended long ago, or were killed and could not do it themselves."""
    for other in parent.glob("run-*"):
        with suppress(OSError), (other / "lock").open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # OSError: that run is alive
            if time.time() - other.stat().st_mtime > _KEEP_LOGS_S:
                shutil.rmtree(other)
