import os
import time
from pathlib import Path

import pytest

from deploy.embedded.errors import RepositoryEmpty
from deploy.embedded.run_directory import cache, run_directory


def failed_run(parent: Path) -> Path:
    context = run_directory(parent)
    path = context.__enter__()
    (path / "triton.log").write_text("why")
    (path / "backends/python").mkdir(parents=True)
    assert not context.__exit__(RepositoryEmpty, RepositoryEmpty(parent), None)
    return path


def test_is_removed_on_the_way_out(tmp_path: Path) -> None:
    with run_directory(tmp_path / "cache") as path:
        assert path.parent == tmp_path / "cache"
        (path / "models").mkdir()
    assert not path.exists()


def test_keeps_the_log_after_an_error_and_nothing_else(tmp_path: Path) -> None:
    path = failed_run(tmp_path)
    assert (path / "triton.log").read_text() == "why"
    assert not (path / "backends").exists()


def test_sweeps_what_others_left_long_ago(tmp_path: Path) -> None:
    old, recent = failed_run(tmp_path), failed_run(tmp_path)
    yesterday = time.time() - 2 * 24 * 3600
    with run_directory(tmp_path) as running:
        os.utime(old, (yesterday, yesterday))
        os.utime(running, (yesterday, yesterday))
        with run_directory(tmp_path):
            assert not old.exists()
            assert recent.exists()
            assert running.exists()


@pytest.mark.parametrize("name", ["with space", "it's", "$(x)", "ünïcode"])
def test_avoids_paths_that_tritons_shell_would_split(tmp_path: Path, name: str) -> None:
    with run_directory(tmp_path / name) as path:
        assert path.parent == Path("/tmp")


def test_does_without_a_cache_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with run_directory(tmp_path / "file/cache") as path:
        assert path.parent == Path("/tmp")


def test_the_cache_is_where_the_desktop_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache().parent == tmp_path
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache().parent == Path.home() / ".cache"
