"""CPU time and memory of processes on this machine, from /proc (see proc(5)), and a description of the machine."""

import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from deploy.embedded.installation import CHECKOUT
from gateway.cpus import usable_cpus

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PROC: Final = Path("/proc")


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process and of its children that ended, in steps of 10 ms; 0 once it ended."""
    try:
        # The command name stands in brackets and may contain anything, so the fields begin after the last bracket.
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / _TICKS


def main_thread_seconds(pid: int) -> float:
    """Return user and system time of a process's first thread, which runs a gateway's event loop; 0 once it ended."""
    try:
        return int((_PROC / f"{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9
    except OSError:
        return 0.0


def memory_mb(pid: int) -> dict[str, float]:
    """Return the resident memory `now` and at its `peak`, in MB of 10^6 bytes."""
    status = dict(line.split(":", 1) for line in (_PROC / str(pid) / "status").read_text().splitlines() if ":" in line)
    return {name: int(status[key].split()[0]) * 1024 / 1e6 for name, key in (("now", "VmRSS"), ("peak", "VmHWM"))}


def threads(pid: int) -> int:
    """Count the threads of a process."""
    return len(list((_PROC / str(pid) / "task").iterdir()))


def descendants(pid: int) -> dict[int, str]:
    """Return the command lines of all processes below `pid`, by process id."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # The process ended in the meantime.
            children.setdefault(parent, []).append(int(entry.name))
    found, pending = {}, [pid]
    while pending:
        for child in children.get(pending.pop(), []):
            with suppress(OSError):  # it has ended
                found[child] = (_PROC / str(child) / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            pending.append(child)
    return found


def with_descendants(pids: Sequence[int]) -> set[int]:
    """Return these processes and all below them."""
    return {*pids, *(child for pid in pids for child in descendants(pid))}


def shared_memory_mb(pids: Sequence[int]) -> float:
    """Return the resident memory of these processes and all below them. What they share counts once (PSS)."""
    total = 0
    for pid in with_descendants(pids):
        with suppress(OSError):  # it has ended
            lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total * 1024 / 1e6


@contextmanager
def cpu_of(pids: Mapping[str, list[int]]) -> Iterator[dict[str, float]]:
    """Measure the CPU seconds of each role within the block. The yielded dictionary is filled at its end.

    A role includes the processes below its own. The gateway's workers come and go.
    """
    before = {role: sum(map(cpu_seconds, with_descendants(members))) for role, members in pids.items()}
    spent: dict[str, float] = {}
    yield spent
    for role, members in pids.items():
        spent[role] = sum(map(cpu_seconds, with_descendants(members))) - before[role]


def commit() -> str:
    """Return the commit of the checkout."""
    git = subprocess.run(["git", "-C", CHECKOUT, "describe", "--always"], capture_output=True, text=True, check=False)
    return git.stdout.strip() or "unknown"


def machine() -> dict[str, object]:
    """Describe the machine without its host name."""
    facts: dict[str, str] = {}
    for line in (_PROC / "cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    flags = facts.get("flags", "").split()
    return {
        "cpu": facts.get("model name", platform.machine()),
        "cores": usable_cpus(),
        "instructions": [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8") if flag in flags],
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }
