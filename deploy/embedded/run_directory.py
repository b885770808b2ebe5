"""A directory for the files of one run: Triton's log, and what Triton needs laid out in its own way."""

import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deploy.embedded.errors import LaunchError

_KEEP_LOGS_S = 24 * 3600
_PREFIX = "pe-serve-"
# Triton starts its Python stub by way of a shell that splits and expands the paths it is given.
_SAFE = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")


def cache() -> Path:
    """The user's cache directory for this project."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "perception-encoder-server"


@contextmanager
def run_directory(parent: Path) -> Iterator[Path]:
    """Removed on the way out; after a LaunchError kept for a day, since the message names the log in it.

    It lies in `parent`, the cache directory, rather than in /tmp, which is often mounted noexec: an executable is laid
    there. Where `parent` cannot be used, it lies in /tmp after all.
    """
    path = _make(parent)
    with (path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _sweep(path.parent)
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


def _sweep(parent: Path) -> None:
    """Removes the directories of runs that ended long ago, or were killed and could not do it themselves."""
    for other in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError), (other / "lock").open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # OSError: that run is alive
            if time.time() - other.stat().st_mtime > _KEEP_LOGS_S:
                shutil.rmtree(other)
