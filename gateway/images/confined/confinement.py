"""Confine the process that decodes images: limits on its memory and its time, no files, no network."""

import ctypes
import math
import resource
import time
from contextlib import suppress
from enum import IntFlag
from pathlib import Path
from typing import Final

from gateway.images.confined import landlock, seccomp

_PR_SET_NO_NEW_PRIVS: Final = 38  # linux/prctl.h
# Pixels go to the gateway through a file. The largest input of a PE-Core tower has 0.6 MB.
_MAX_FILE_BYTES: Final = 64 * 2**20


class Confinement(IntFlag):
    """What the kernel offers beside the limits, which every Linux has."""

    NONE = 0
    SECCOMP = 1
    LANDLOCK = 2

    @property
    def description(self) -> str:
        """For a log line."""
        names = [name for flag, name in ((self.SECCOMP, "seccomp"), (self.LANDLOCK, "Landlock")) if flag in self]
        return " and ".join(names) or "without seccomp or Landlock"


def confine(memory_bytes: int) -> Confinement:
    """Confine this process for good. It keeps its open descriptors.

    Args:
        memory_bytes: what it may allocate beside what it has now. More raises MemoryError, or fails as libraries
            fail.

    Returns:
        What the kernel offers.
    """
    # If the machine or the container has no memory left, the kernel ends a decoder first, not Triton.
    with suppress(OSError):  # hardened containers may forbid it
        Path("/proc/self/oom_score_adj").write_text("1000")
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _limit(resource.RLIMIT_AS, in_use + memory_bytes)
    _limit(resource.RLIMIT_FSIZE, _MAX_FILE_BYTES)
    _limit(resource.RLIMIT_CORE, 0)
    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    found = Confinement.LANDLOCK if landlock.restrict() else Confinement.NONE
    _limit(resource.RLIMIT_NOFILE, 0)  # no new descriptors
    return found | (Confinement.SECCOMP if seccomp.install() else Confinement.NONE)


def allow_cpu_seconds(seconds: float) -> None:
    """Let the kernel kill this process by SIGXCPU after about so many more seconds of CPU time.

    The gateway kills a slow worker by the clock. This limit holds even if the gateway is stuck.
    """
    # The limit counts the CPU time of the process's whole life, in whole seconds.
    soft = math.ceil(time.process_time() + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _limit(which: int, value: int) -> None:
    hard = resource.getrlimit(which)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (value, value))
