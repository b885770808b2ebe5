"""The directory for the files of one run: Triton's log, and the tree that Triton runs from (`layout.py`)."""

import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from deploy.embedded.errors import LaunchError

_KEEP_LOGS_S: Final = 24 * 3600
_PREFIX: Final = "pe-serve-"
# Triton starts its Python stub through a shell, which splits and expands the paths.
_SAFE: Final = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")


def cache() -> Path:
    """Return the user's cache directory for this project."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "perception-encoder-server"


@contextmanager
def run_directory(parent: Path) -> Iterator[Path]:
    """Create a run's directory, and remove it at the end.

    After a `LaunchError` the files in it are kept for a day, because the error's message names the log. The directory
    lies in the cache and not in /tmp, because it will hold a program and /tmp is often mounted noexec. /tmp is used if
    the cache directory cannot be used.

    Args:
        parent: the cache directory.
    """
    path = _make(parent)
    with (path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _remove_stale(path.parent)
        try:
            yield path
        except LaunchError:
            for entry in path.iterdir():
                if entry.is_dir():
                    shutil.rmtree(entry)
            raise
        except BaseException:
            shutil.rmtree(path)
            raise
        shutil.rmtree(path)


def _make(parent: Path) -> Path:
    if _SAFE.fullmatch(str(parent)):
        with suppress(OSError):
            parent.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    return Path(tempfile.mkdtemp(prefix=_PREFIX, dir="/tmp"))


def _remove_stale(parent: Path) -> None:
    """Remove the directories of old runs that failed or were killed."""
    for other in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError), (other / "lock").open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # OSError if that run is alive
            if time.time() - other.stat().st_mtime > _KEEP_LOGS_S:
                shutil.rmtree(other)
