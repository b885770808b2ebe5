"""Count the CPUs that this process may use.

Python's `os.process_cpu_count` counts its affinity alone. A container or a systemd unit with a CPU quota sees every CPU
of the machine there. Threads beyond the quota make the kernel stop all threads for the rest of each period.
https://docs.kernel.org/admin-guide/cgroup-v2.html describes the files of version 2,
https://docs.kernel.org/scheduler/sched-bwc.html those of version 1.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

_PROCESS: Final = Path("/proc/self")


def usable_cpus(process: Path = _PROCESS) -> int:
    """Return the CPUs by affinity, or by the least CPU quota of the process's cgroups if that is less. At least 1.

    Args:
        process: the directory of this process in /proc.
    """
    cpus = float(len(os.sched_getaffinity(0)))
    for directory in _cgroups(process):
        with suppress(OSError, ValueError):
            cpus = min(cpus, _quota(directory))
    return max(1, int(cpus))


def _cgroups(process: Path) -> Iterator[Path]:
    """Yield the directories of the process's cgroups that may have a CPU quota, each before its parents."""
    try:
        memberships = [line.split(":", 2) for line in (process / "cgroup").read_text().splitlines()]
        mounts = [line.split(" - ") for line in (process / "mountinfo").read_text().splitlines()]
    except OSError:
        return
    for visible, origin in (mount for mount in mounts if len(mount) == 2):
        root, mount_point = visible.split()[3:5]
        kind, *_, options = origin.split()
        for controllers, path in (membership[1:] for membership in memberships if len(membership) == 3):
            if kind == ("cgroup" if controllers else "cgroup2") and (not controllers or _cpu_in(controllers, options)):
                below = os.path.relpath(path, root)
                # A container may see its own cgroup as the root, although the path is the machine's.
                directory = Path(mount_point) if below.startswith("..") else Path(mount_point, below)
                yield from [directory, *(p for p in directory.parents if p.is_relative_to(mount_point))]


def _cpu_in(*lists: str) -> bool:
    return all("cpu" in names.split(",") for names in lists)


def _quota(directory: Path) -> float:
    """Return a cgroup's quota in CPUs. Raises OSError or ValueError if there is none."""
    if (version_2 := directory / "cpu.max").exists():
        quota, period = map(int, version_2.read_text().split())  # the first is "max" without a quota
    else:
        quota, period = (int((directory / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
    if quota <= 0 or period <= 0:  # -1 without a quota
        raise ValueError(quota)
    return quota / period
