"""What a program can do to the modes of its files, run by `keep_private.py`."""

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.embedded import keep_private

PROGRAM = """
import os, subprocess, sys
path, mode = sys.argv[1], int(sys.argv[2], 8)
os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o666))
file = os.open(path, os.O_RDWR)
os.fchmod(file, mode)
print(oct(os.fstat(file).st_mode & 0o777))
"""


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", keep_private.__file__, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("asked", "kept"), [("644", "0o600"), ("666", "0o600"), ("640", "0o600"), ("601", "0o600"), ("400", "0o400")]
)
def test_fchmod_admits_no_other_user(tmp_path: Path, asked: str, kept: str) -> None:
    done = run(sys.executable, "-c", PROGRAM, tmp_path / "file", asked)
    assert (done.stdout, done.stderr) == (f"{kept}\n", "")


def test_the_processes_that_it_starts_cannot_either(tmp_path: Path) -> None:
    """Triton starts its Python stubs through a shell."""
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    done = run("sh", "-c", f"{sys.executable} {script} {tmp_path / 'file'} 644; true")
    assert done.stdout == "0o600\n"


def test_status_and_arguments_are_the_programs() -> None:
    assert run("sh", "-c", 'exit "$1"', "sh", "7").returncode == 7


def test_without_filters_the_program_is_not_started() -> None:
    """A kernel that is asked for a filter of no instruction refuses, as one without filters does."""
    code = "from deploy.embedded import keep_private as k; k._filter = lambda *_: b''; k.main()"
    done = subprocess.run([sys.executable, "-c", code, "echo", "started"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "no seccomp filter (Invalid argument)" in done.stderr
