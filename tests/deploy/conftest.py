"""Fixtures: model repositories of the tiny models, and a `pe-serve` that is stopped after the test."""

import contextlib
import importlib.util
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from deploy.embedded import child
from tests.running import PeServe

MODELS: Final = Path(__file__).with_name("models")
# Their environment is another one, `.venv-bulk`.
collect_ignore = [] if importlib.util.find_spec("psycopg") else ["bulk"]


@pytest.fixture(autouse=True)
def orphans_leave() -> Iterator[None]:
    """Undo `adopt_orphans`, which `pe-serve` calls. Orphans of later tests would not be reaped here."""
    yield
    child._libc.prctl(child._PR_SET_CHILD_SUBREAPER, 0)


@pytest.fixture
def make_repository(tmp_path: Path) -> Callable[..., Path]:
    """make_repository("Tiny-vision", "Tiny-text") -> a repository of copies that a test may damage."""

    def make(*names: str) -> Path:
        repository = tmp_path / "model_repository"
        repository.mkdir()
        for name in names:
            shutil.copytree(MODELS / name, repository / name)
        return repository

    return make


@pytest.fixture
def pe_serve(tmp_path: Path) -> Iterator[Callable[..., PeServe]]:
    """pe_serve("--repository", path) -> PeServe, on a free port unless `--port` is given."""
    started: list[PeServe] = []

    def start(*arguments: str | Path, **environment: str) -> PeServe:
        directory = tmp_path / f"run-{len(started)}"
        directory.mkdir()
        port = () if "--port" in arguments else ("--port", "0")
        started.append(PeServe(directory, *arguments, *port, **environment))
        return started[-1]

    yield start
    for run in started:
        if run.process.poll() is None:
            run.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.process.wait(30)
        run.kill()
