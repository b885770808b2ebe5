"""Measure this process's resident memory, and free unused memory (proc(5): VmRSS, VmHWM, clear_refs)."""

import ctypes
from pathlib import Path
from typing import Final

_PROCESS: Final = Path("/proc/self")


def resident_bytes() -> int:
    """Return the resident memory now, in bytes."""
    return _status("VmRSS")


def peak_bytes() -> int:
    """Return the largest resident memory since `reset_peak` or the start of the process, in bytes."""
    return _status("VmHWM")


def reset_peak() -> None:
    """Set the peak to the current resident memory."""
    (_PROCESS / "clear_refs").write_text("5")


def trim() -> None:
    """Return freed memory to the system. Otherwise glibc keeps blocks of tens of megabytes for later use."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _status(field: str) -> int:
    for line in (_PROCESS / "status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024  # The file's "kB" means 1,024 bytes.
    raise ValueError(f"/proc/self/status has no {field}")
