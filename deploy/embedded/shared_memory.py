"""Remove shared memory of Triton and its Python stubs that they left behind because they were killed."""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

_DIRECTORY: Final = Path("/dev/shm")
_PATTERN: Final = "triton_*_backend_shm_region_*"
_STALE_SECONDS: Final = 60.0


def remove_unused(started: float, directory: Path = _DIRECTORY) -> None:
    """Remove segments that no process has mapped, of this run and of old runs that were killed.

    Segments that are neither may belong to another Triton that is just starting.

    Args:
        started: the start of this run, in seconds since 1970.
        directory: where the system keeps shared memory.
    """
    now = time.time()
    ours = [path for path in directory.glob(_PATTERN) if _is_ours(path, started, now)]
    if ours:
        used = _used(directory)
        for path in ours:
            if str(path) not in used:
                path.unlink(missing_ok=True)


def _is_ours(path: Path, started: float, now: float) -> bool:
    try:
        made = path.stat()
    except OSError:
        return False
    recent = made.st_ctime >= started - 1  # the clock for files lags by some milliseconds
    return made.st_uid == os.geteuid() and (recent or made.st_ctime < now - _STALE_SECONDS)


def _used(directory: Path) -> set[str]:
    """Return every path in `directory` that some process has mapped."""
    found = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):  # the process ended, or belongs to another user
            found |= {line.split(maxsplit=5)[-1] for line in maps.read_text().splitlines() if f"{directory}/" in line}
    return found
