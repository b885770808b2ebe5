"""This process's resident memory, from Linux's own accounts (proc(5): VmRSS, VmHWM, clear_refs)."""

import ctypes
from pathlib import Path

_PROCESS = Path("/proc/self")


def resident_bytes() -> int:
    """Memory in use now."""
    return _status("VmRSS")


def peak_bytes() -> int:
    """The most that was in use since `forget_peak`, or since the process began."""
    return _status("VmHWM")


def forget_peak() -> None:
    """Begin a new peak."""
    (_PROCESS / "clear_refs").write_text("5")


def give_back() -> None:
    """Return to the system what was freed; glibc keeps blocks of tens of megabytes otherwise."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _status(field: str) -> int:
    for line in (_PROCESS / "status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024  # "kB" there means 1,024 bytes
    raise ValueError(f"/proc/self/status has no {field}")
