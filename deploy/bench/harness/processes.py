"""CPU time and memory of processes on this machine, from /proc (see proc(5)), and a description of the machine."""

import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from deploy.embedded.installation import CHECKOUT
from gateway.cpus import usable_cpus

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PROC: Final = Path("/proc")


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process with all its threads, in steps of 10 ms; 0 once the process ended."""
    try:
        # The command name stands in brackets and may contain anything, so the fields begin after the last bracket.
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


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
            found[child] = (_PROC / str(child) / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            pending.append(child)
    return found


@contextmanager
def cpu_of(pids: Mapping[str, list[int]]) -> Iterator[dict[str, float]]:
    """Measure the CPU seconds of each role within the block. The yielded dictionary is filled at its end."""
    before = {role: sum(map(cpu_seconds, members)) for role, members in pids.items()}
    spent: dict[str, float] = {}
    yield spent
    spent.update({role: sum(map(cpu_seconds, members)) - before[role] for role, members in pids.items()})


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
