import io
import re
import time

import pytest

from export.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_one_line_a_step() -> None:
    log = io.StringIO()
    progress = Progress(log)
    with progress.step("vision", "load", "1.3 MB") as advance:
        advance(0.5)
    assert log.getvalue().startswith("vision   load ")
    assert log.getvalue().endswith(" in memory  1.3 MB\n")
    assert log.getvalue().count("\n") == 1
    assert progress.seconds["load"] >= 0
    assert progress.peak_memory_bytes["load"] > 1_000_000


def test_a_terminal_sees_a_bar_while_it_runs() -> None:
    terminal = Terminal()
    with Progress(terminal).step("text", "torch") as advance:
        advance(0.5)
        time.sleep(0.5)
    drawn, final = terminal.getvalue().rsplit("\r\033[K", 1)
    assert "[############            ]" in drawn
    assert final.startswith("text     torch ")


def test_a_log_gets_a_line_now_and_then_of_a_long_step() -> None:
    log = io.StringIO()
    with Progress(log, log_seconds=0.05).step("weights", "download") as advance:
        advance(0.25)
        time.sleep(0.2)
    first, *_, last = log.getvalue().splitlines()
    assert re.fullmatch(r"weights  download +0\.\d s   25% \.\.\.", first)
    assert " in memory" in last


def test_the_time_left_counts_from_where_the_step_began_until_now() -> None:
    """As of a download that was resumed: what an earlier run did says nothing about the rate."""
    terminal = Terminal()
    with Progress(terminal).step("weights", "download") as advance:
        advance(0.6)
        time.sleep(1)
        advance(0.7)
        time.sleep(0.8)
    left = [int(seconds) for seconds in re.findall(r"70%, about (\d+) s left", terminal.getvalue())]
    assert min(left) >= 3  # A tenth took at least a second, and three tenths are left.
    assert max(left) > min(left)  # Nothing has arrived since.


def test_a_step_that_fails_leaves_no_line() -> None:
    terminal = Terminal()
    progress = Progress(terminal)

    def fail() -> None:
        with progress.step("text", "torch"):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert terminal.getvalue() == "\r\033[K"
    assert progress.seconds == {}
