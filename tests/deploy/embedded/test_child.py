import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.embedded.child import Child, adopt_orphans
from deploy.embedded.errors import ProcessDied
from deploy.embedded.signals import Signals

POLITE = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(print("bye")))
print("up", flush=True)
time.sleep(60)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(60)
"""
PARENT = f"""
import subprocess, sys, time
print(subprocess.Popen([sys.executable, "-c", {STUBBORN!r}]).pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def signals() -> Iterator[Signals]:
    with Signals() as entered:
        yield entered


@pytest.fixture
def adopted_orphans() -> None:
    """Reap orphans in this process, as `pe-serve` does. Process 1 of a container may take seconds."""
    adopt_orphans()


def child(tmp_path: Path, code: str) -> Child:
    return Child("It", [sys.executable, "-c", code], {}, tmp_path / "log")


def wait_for(child: Child, text: str) -> None:
    end = time.monotonic() + 10
    while text not in child.tail():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_stops_by_sigterm(tmp_path: Path, signals: Signals) -> None:
    running = child(tmp_path, POLITE)
    wait_for(running, "up")
    running.stop(signals, patience=10)
    assert running.tail() == "up\nbye"


def test_kills_what_does_not_stop(tmp_path: Path, signals: Signals) -> None:
    running = child(tmp_path, STUBBORN)
    wait_for(running, "up")
    running.stop(signals, patience=0.2)
    with pytest.raises(ProcessDied) as caught:
        running.require_alive()
    assert caught.value.status == -signal.SIGKILL


@pytest.mark.usefixtures("adopted_orphans")
def test_leaves_none_of_its_children(tmp_path: Path, signals: Signals) -> None:
    running = child(tmp_path, PARENT)
    wait_for(running, "up")
    grandchild = running.tail().split()[0]
    running.stop(signals, patience=5, grace=0.2)
    end = time.monotonic() + 5
    while Path(f"/proc/{grandchild}/cmdline").exists() and Path(f"/proc/{grandchild}/cmdline").read_bytes():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_death_carries_status_and_the_end_of_the_log(tmp_path: Path) -> None:
    running = child(tmp_path, "print(*range(100), sep='\\n'); raise SystemExit(3)")
    wait_for(running, "99")
    end = time.monotonic() + 10
    while running.status is None:
        assert time.monotonic() < end
        time.sleep(0.02)
    with pytest.raises(ProcessDied) as caught:
        running.require_alive()
    assert caught.value.status == 3
    assert caught.value.tail.splitlines() == [str(number) for number in range(80, 100)]


def test_a_command_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Child("It", [tmp_path / "missing"], {}, tmp_path / "log")
