"""The script itself, on a copy of what it reads. Making environments takes seconds: most are not with the units."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def start(project: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    nowhere = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_FIND_LINKS": "",
        "PIP_RETRIES": "1",
    }
    return subprocess.Popen(
        [sys.executable, str(project / "deploy/environments.py"), *arguments],
        env={**os.environ, **nowhere, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("arguments", [(), ("everything",), ("serve", "test")])
def test_says_how_it_is_called(project: Path, arguments: tuple[str, ...]) -> None:
    with start(project, *arguments) as process:
        assert process.communicate()[1] == "usage: environments.py serve|openvino|bench|export|test\n"
    assert process.returncode == 2


@pytest.mark.triton
def test_no_network(project: Path) -> None:
    with start(project, "serve") as process:
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert "Setup failed" in said
    assert "the package index cannot be reached" in said
    assert "Traceback" not in said


@pytest.mark.triton
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_says_so_and_goes_on_next_time(project: Path, signum: int) -> None:
    with start(project, "serve") as process:
        while not list(project.glob(".venv*/bin/python")) and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signum)
        said = process.communicate(timeout=30)[1]
    assert process.returncode == 130
    assert said.count("Interrupted") == 1
    assert "Traceback" not in said
    assert "Setup failed" not in said
    with start(project, "serve") as process:
        assert "the package index cannot be reached" in process.communicate(timeout=60)[1]
