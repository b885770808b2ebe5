"""The shared memory between Triton and its Python stubs, which they remove themselves unless killed at a bad moment."""

import os
import time
from contextlib import suppress
from pathlib import Path

_DIRECTORY = Path("/dev/shm")
_PATTERN = "triton_*_backend_shm_region_*"
_STALE_S = 60.0


def sweep(started: float, directory: Path = _DIRECTORY) -> None:
    """Removes what no process uses: made since `started` (seconds since 1970), or long ago by a run that was killed.

    What lies in between may belong to another Triton that is just starting.
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
    recent = made.st_ctime >= started - 1  # the clock of files lags by some milliseconds
    return made.st_uid == os.geteuid() and (recent or made.st_ctime < now - _STALE_S)


def _used(directory: Path) -> set[str]:
    """Every path in `directory` that some process has mapped."""
    found = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):  # it ended, or is another user's
            found |= {line.split(maxsplit=5)[-1] for line in maps.read_text().splitlines() if f"{directory}/" in line}
    return found
