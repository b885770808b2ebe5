import os
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.embedded import socket_directory as module
from deploy.embedded.endpoints import SocketEndpoint
from deploy.embedded.errors import SocketDirectoryImpossible
from deploy.embedded.socket_directory import parents, socket_directory
from gateway.triton import addresses


@pytest.fixture
def parent() -> Iterator[Path]:
    """A directory with a short path, unlike `tmp_path`."""
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        yield Path(path)


def killed_run(parent: Path) -> Path:
    """Return what a run leaves that was killed."""
    path = Path(tempfile.mkdtemp(prefix="pe-triton-", dir=parent))
    (path / "lock").touch()
    (path / "t.sock:1").touch()
    return path


def test_only_its_user_can_enter_it_and_it_is_removed(parent: Path) -> None:
    with socket_directory([parent]) as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert path.parent == parent
        (path / "t.sock:1").touch()
    assert list(parent.iterdir()) == []


def test_is_removed_after_an_error(parent: Path) -> None:
    with pytest.raises(KeyError), socket_directory([parent]):
        raise KeyError
    assert list(parent.iterdir()) == []


def test_runs_side_by_side_leave_each_other_alone_and_sweep_what_killed_ones_left(parent: Path) -> None:
    stale, recent = killed_run(parent), killed_run(parent)
    past = time.time() - 3600
    with socket_directory([parent]) as first:
        for path in (stale, first):
            os.utime(path, (past, past))
        with socket_directory([parent]) as second:
            assert first != second
            assert not stale.exists()
            assert recent.exists()
            assert first.exists()


def test_the_users_own_directory_comes_first(monkeypatch: pytest.MonkeyPatch, parent: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(parent))
    assert parents()[0] == parent
    assert Path("/tmp") in parents()
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert parent not in parents()


def long_path(parent: Path, spare: int) -> Path:
    """Return a path below which the socket's path is `spare` bytes short of the limit."""
    length = len(str(SocketEndpoint(parent / "x" / "pe-triton-12345678").grpc.removeprefix("unix:"))) - 1
    path = parent / ("x" * (addresses.MAX_PATH_BYTES - length - spare))
    path.mkdir()
    return path


def test_the_longest_path_that_a_socket_can_have(parent: Path) -> None:
    with socket_directory([long_path(parent, spare=0)]) as path:
        (socket,) = addresses.parse(SocketEndpoint(path).grpc)
        assert len(str(socket).removeprefix("unix:")) == addresses.MAX_PATH_BYTES


def test_says_why_no_directory_will_do(parent: Path) -> None:
    long, spaced, open_to_all = long_path(parent, spare=-1), parent / "a b", parent / "open"
    for path in (spaced, open_to_all):
        path.mkdir()
    open_to_all.chmod(0o777)
    tried = [long, spaced, open_to_all, parent / "missing", Path("relative")]
    with pytest.raises(SocketDirectoryImpossible) as caught, socket_directory(tried):
        pass
    reasons = caught.value.reasons
    assert list(reasons) == tried
    for path, reason in zip(
        tried, ["too long", "characters", "another user", "No such file", "not absolute"], strict=True
    ):
        assert reason in reasons[path]


def test_a_directory_that_will_not_do_is_passed_over(parent: Path) -> None:
    with socket_directory([parent / "missing", parent]) as path:
        assert path.parent == parent


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to another user")
def test_a_directory_of_another_user_will_not_do(parent: Path) -> None:
    theirs = parent / "theirs"
    theirs.mkdir(0o700)
    os.chown(theirs, 65534, 65534)
    assert "another user" in module._objection(theirs)
