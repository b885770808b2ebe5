"""The directory for the files of one run: Triton's log, and the tree that Triton runs from (`layout.py`)."""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from deploy.embedded.directory_lock import locked
from deploy.embedded.errors import LaunchError, RunDirectoryUnusable

_TEMPORARY: Final = (Path("/tmp"), Path("/var/tmp"))
_KEEP_LOGS_SECONDS: Final = 24 * 3600
_PREFIX: Final = "pe-serve-"
# Triton starts its Python stub through a shell, which splits and expands the paths.
_SAFE: Final = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")
_NEEDED_BYTES: Final = 16 * 2**20  # Triton's Python backend and its stub (3 MB), and room for a log


def cache() -> Path:
    """Return the user's cache directory for this project; one in /tmp for a user without a home."""
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # HOME is unset, and the user is in no list, as in a container with a user id of its own.
        base = _TEMPORARY[0]
    return Path(base).absolute() / "perception-encoder-server"


@contextmanager
def run_directory(parent: Path) -> Iterator[Path]:
    """Create a run's directory, and remove it at the end.

    After a `LaunchError` the files in it are kept for a day, because the error's message names the log. The directory
    lies in the cache and not in /tmp, because it will hold a program and /tmp is often mounted noexec. If the cache
    directory cannot be used, /tmp or /var/tmp is.

    Args:
        parent: the cache directory.

    Raises:
        RunDirectoryUnusable: none of the directories can be used.
    """
    path = _make(parent)
    with locked(path, _PREFIX, _KEEP_LOGS_SECONDS):
        try:
            yield path
        except LaunchError:
            for entry in path.iterdir():
                if entry.is_dir():
                    shutil.rmtree(entry, ignore_errors=True)
            raise
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise
        shutil.rmtree(path, ignore_errors=True)


def _make(cache: Path) -> Path:
    reasons = {}
    for parent in (cache, *_TEMPORARY):
        try:
            return _make_in(parent)
        except OSError as error:
            reasons[parent] = error.strerror or str(error)
    raise RunDirectoryUnusable(reasons)


def _make_in(parent: Path) -> Path:
    if not _SAFE.fullmatch(str(parent)):
        raise OSError(errno.EINVAL, "Triton's shell would split or expand this path")
    parent.mkdir(parents=True, exist_ok=True)
    volume = os.statvfs(parent)
    if volume.f_flag & os.ST_NOEXEC:
        raise OSError(errno.EACCES, "no program may run there (it is mounted noexec)")
    if volume.f_bavail * volume.f_frsize < _NEEDED_BYTES:
        raise OSError(errno.ENOSPC, f"less than {_NEEDED_BYTES >> 20} MiB are free")
    return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
