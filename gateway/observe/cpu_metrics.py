"""The CPU time of the gateway: of the process that serves, and of the processes that it started to decode images."""

import os
import time
from contextlib import suppress
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from gateway.cpus import usable_cpus

_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_SECONDS_BETWEEN_READINGS: Final = 5.0  # Prometheus asks every 15


class CpuMetrics:
    """Counts CPU seconds. prometheus_client has them for one process only, and not with several workers.

    Args:
        registry: the registry to use.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counter = Counter(
            "pe_cpu_seconds_total",
            "CPU time of the processes that serve, and of the processes that decode images.",
            ["process"],
            registry=registry,
        )
        workers = Gauge("pe_workers", "Processes that serve.", registry=registry, multiprocess_mode="livesum")
        workers.set(1)
        cpus = Gauge("pe_cpus", "CPUs that the gateway may use.", registry=registry, multiprocess_mode="livemax")
        cpus.set(usable_cpus())
        self._known = {"server": 0.0, "decoder": 0.0}  # seconds
        self._next_reading = 0.0

    def update(self) -> None:
        """Read the CPU time, at most once in five seconds."""
        if (now := time.monotonic()) < self._next_reading:
            return
        self._next_reading = now + _SECONDS_BETWEEN_READINGS
        for process, seconds in (("server", time.process_time()), ("decoder", _seconds_of_children())):
            # The sum falls when the parent of a process ends before it.
            self._counter.labels(process).inc(max(0.0, seconds - self._known[process]))
            self._known[process] = seconds


def _seconds_of_children() -> float:
    """Return the CPU seconds of all processes that this one started, those that ended included."""
    ended = os.times()
    return ended.children_user + ended.children_system + _seconds_below(os.getpid())


def _seconds_below(parent: int) -> float:
    """Return the CPU seconds of a process's living descendants and of the children that these have waited for."""
    seconds = 0.0
    with suppress(OSError):  # the parent ended
        for thread in os.listdir(f"/proc/{parent}/task"):
            for child in map(int, _read(f"/proc/{parent}/task/{thread}/children").split()):
                with suppress(OSError):  # the child ended
                    # The name of the program, in brackets, may have spaces. See proc_pid_stat(5).
                    fields = _read(f"/proc/{child}/stat").rpartition(b")")[2].split()
                    seconds += sum(map(int, fields[11:15])) / _TICKS_PER_SECOND  # utime, stime, cutime, cstime
                seconds += _seconds_below(child)
    return seconds


def _read(path: str) -> bytes:
    """Return the first bytes of a file, in half the time of `Path.read_text`."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 65536)
    finally:
        os.close(descriptor)
