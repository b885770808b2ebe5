import os
import sys
from pathlib import Path

import pytest

from deploy.bootstrap import interpreter
from deploy.bootstrap.errors import BootstrapError


def on_the_path(directory: Path, name: str, script: str) -> None:
    (directory / name).write_text(f"#!/bin/sh\n{script}\n")
    (directory / name).chmod(0o755)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """What the program would have become, with an old Python running and only `tmp_path` to look in."""
    executed: list[list[str]] = []
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    monkeypatch.setattr(sys, "argv", ["environments.py", "serve"])
    monkeypatch.setattr(os, "execvp", lambda file, arguments: executed.append(arguments))
    monkeypatch.setenv("PATH", str(tmp_path))
    return executed


def test_the_running_python_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    interpreter.ensure()


def test_starts_over_with_one_that_runs(started: list[list[str]], tmp_path: Path) -> None:
    on_the_path(tmp_path, "python3.12", "echo 'python3.12: not installed' >&2; exit 127")
    on_the_path(tmp_path, "python3.11", "exit 0")
    with pytest.raises(BootstrapError):  # in earnest, exec does not come back
        interpreter.ensure()
    assert started == [["python3.11", "environments.py", "serve"]]


def test_none_is_told_with_what_to_do(started: list[list[str]]) -> None:
    with pytest.raises(BootstrapError, match=r"This is 3\.9, and neither(.|\n)*make PYTHON="):
        interpreter.ensure()
    assert started == []


@pytest.mark.parametrize(
    "module", ["deploy/environments.py", "deploy/bootstrap/interpreter.py", "deploy/bootstrap/errors.py"]
)
def test_older_pythons_can_read_what_runs_before_the_choice(module: str) -> None:
    import ast

    ast.parse((Path(__file__).parents[3] / module).read_text(), feature_version=(3, 7))
