"""For all tests."""

import signal


def pytest_configure() -> None:
    """A shell's background job, or nohup, ignores these, and so would every server that tests send them to."""
    for signum, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, usual)
