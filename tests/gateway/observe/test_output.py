"""Standard output and standard error that fail, are closed, or are read by nobody."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from gateway.observe.logs import Handler, TextFormatter
from gateway.observe.output import Output

FULL: Final = Path("/dev/full")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The reading and the writing end of a pipe."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def fill(descriptor: int) -> int:
    """Fill a pipe, and return how many bytes it took."""
    os.set_blocking(descriptor, False)
    took = 0
    try:
        while True:
            took += os.write(descriptor, bytes(4096))
    except BlockingIOError:
        os.set_blocking(descriptor, True)
        return took


def handler(descriptor: int) -> Handler:
    made = Handler(Output(descriptor))
    made.setFormatter(TextFormatter("%(levelname)s %(message)s"))
    return made


def record(message: str) -> logging.LogRecord:
    return logging.LogRecord("a", logging.INFO, "a.py", 1, message, (), None)


def test_a_text_arrives_whole_whatever_its_characters(pipe: tuple[int, int]) -> None:
    text = "modèles 日本 \udcff " + "x" * 20_000
    assert Output(pipe[1]).write(text)
    assert os.read(pipe[0], 2**16).decode() == text.replace("\udcff", "\\udcff") + "\n"


def test_a_full_disk_and_a_reader_that_has_gone_cost_the_text() -> None:
    with FULL.open("wb", buffering=0) as full:
        assert not Output(full.fileno()).write("text")
    reading, writing = os.pipe()
    os.close(reading)
    assert not Output(writing).write("text")
    os.close(writing)
    assert not Output(writing).write("text")  # a closed descriptor


def test_a_reader_that_stopped_reading_costs_the_text(pipe: tuple[int, int]) -> None:
    output = Output(pipe[1])
    taken = fill(pipe[1])
    assert not output.write("lost")
    os.read(pipe[0], taken)
    assert output.write("next")
    assert os.read(pipe[0], 2**16) == b"next\n"


def test_a_line_that_was_cut_does_not_run_into_the_next(pipe: tuple[int, int]) -> None:
    output = Output(pipe[1])
    taken = fill(pipe[1])
    os.read(pipe[0], 8192)
    assert not output.write("x" * 20_000)
    read = os.read(pipe[0], taken)
    assert read.endswith(b"x" * 8192)
    assert output.write("next")
    assert os.read(pipe[0], 2**16) == b"\nnext\n"


def test_lost_entries_are_counted_in_the_log_once_it_can_be_written(pipe: tuple[int, int]) -> None:
    log = handler(pipe[1])
    taken = fill(pipe[1])
    log.handle(record("one"))
    log.handle(record("two"))
    os.read(pipe[0], taken)
    log.handle(record("three"))
    log.handle(record("four"))
    assert os.read(pipe[0], 2**16).decode().splitlines() == [
        "WARNING 2 entries of this log could not be written",
        "INFO three",
        "INFO four",
    ]


def test_closed_streams_become_the_null_device_for_children_too() -> None:
    code = (
        "import os, subprocess, sys\n"
        "from gateway.observe import output\n"
        "output.prepare()\n"
        "names = [os.readlink(f'/proc/self/fd/{fd}') for fd in range(3)]\n"
        "child = subprocess.run(['true'])\n"
        "sys.exit(names != ['/dev/null'] * 3 or child.returncode)"
    )
    command = ["sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, code]
    assert subprocess.run(command, check=False).returncode == 0
