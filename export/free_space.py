"""Check that the disk has enough space before a long download or export begins."""

import os
import shutil
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from export.errors import DiskSpaceError
from export.files import readable_size


@dataclass(frozen=True)
class Need:
    """Space that a step will take."""

    what: str
    """What will lie there, for the message."""
    directory: Path
    """Where. The directory need not exist yet."""
    size: int
    """In bytes."""
    setting: str
    """The option or variable that chooses another directory."""


def require(needs: Iterable[Need]) -> None:
    """Check that every file system has room for all that will lie on it.

    Raises:
        DiskSpaceError: one has less. The message names what needs how much, and how to choose another directory.
    """
    by_device = defaultdict(list)
    for need in needs:
        existing = _existing(need.directory)
        by_device[os.stat(existing).st_dev].append((need, existing))
    for found in by_device.values():
        free = shutil.disk_usage(found[0][1]).free
        if sum(need.size for need, _ in found) <= free:
            continue
        parts = " and ".join(f"{readable_size(n.size)} for {n.what} in {n.directory}" for n, _ in found if n.size)
        settings = ", ".join(dict.fromkeys(need.setting for need, _ in found if need.size))
        raise DiskSpaceError(
            f"too little disk space: {parts} are needed, and {readable_size(free)} are free. "
            f"Free some, or choose another directory ({settings})"
        )


def _existing(directory: Path) -> Path:
    """Return the directory, or the nearest directory above it that exists."""
    absolute = directory.absolute()
    return next(path for path in (absolute, *absolute.parents) if path.exists())
