import os
import signal
import subprocess
import threading
import time

import pytest

from deploy.embedded.signals import Signals, StopRequested


def send(signum: int, after: float = 0.1) -> None:
    threading.Timer(after, os.kill, (os.getpid(), signum)).start()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_signal_ends_the_wait_and_every_later_one(signum: int) -> None:
    with Signals() as signals:
        send(signum)
        started = time.monotonic()
        with pytest.raises(StopRequested) as caught:
            signals.wait(10)
        assert time.monotonic() - started < 5
        assert caught.value.signum == signum
        with pytest.raises(StopRequested):
            signals.wait(0)


def test_nothing_is_raised_between_waits() -> None:
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        signals.pause(0.01)
        assert signals.received == [signal.SIGINT]


def test_the_end_of_a_child_ends_the_wait() -> None:
    with Signals() as signals:
        with subprocess.Popen(["sleep", "0.2"]) as child:
            started = time.monotonic()
            signals.wait(10)
            assert time.monotonic() - started < 5
        assert child.returncode == 0


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Signals():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before


def test_nohup_is_respected() -> None:
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            signals.wait(0.05)
    finally:
        signal.signal(signal.SIGHUP, previous)
