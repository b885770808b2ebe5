import errno
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from export.errors import RepositoryError
from export.repository.store import Repository


def stage(staging: Path, content: str = "weights") -> Path:
    staged = staging / "version"
    staged.mkdir()
    (staged / "model.onnx").write_text(content)
    return staged


def tree(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "models")
    made.require_writable()
    return made


def test_a_first_export_is_version_1(repository: Repository) -> None:
    with repository.staging() as staging:
        assert repository.publish("m-vision", stage(staging), "config") == 1
    assert tree(repository.path) == ["m-vision/1/model.onnx", "m-vision/config.pbtxt"]
    assert repository.read_config("m-vision") == "config"


def test_the_next_export_is_a_new_version_and_keeps_the_old(repository: Repository) -> None:
    for content in ("old", "new"):
        with repository.staging() as staging:
            repository.publish("m", stage(staging, content), f"config of {content}")
    assert tree(repository.path) == ["m/1/model.onnx", "m/2/model.onnx", "m/config.pbtxt"]
    assert (repository.path / "m/1/model.onnx").read_text() == "old"
    assert repository.read_config("m") == "config of new"
    assert repository.latest_version("m") == 2


def test_versions_count_as_numbers_and_other_names_do_not(repository: Repository) -> None:
    for name in ("2", "10", "old", "9x", "011", "0", "²", "٣٣"):  # Triton ignores those that begin with 0.
        (repository.path / "m" / name).mkdir(parents=True)
    assert repository.latest_version("m") == 10
    assert repository.latest_version("absent") == 0


def test_staging_lies_outside_what_triton_reads(repository: Repository) -> None:
    with repository.staging() as staging:
        stage(staging)
        assert repository.path not in staging.parents
        assert tree(repository.path) == []
    assert not staging.exists()


def test_what_a_killed_run_left_is_cleared(repository: Repository) -> None:
    with repository.staging() as staging:
        path = staging
    (path / "version").mkdir(parents=True)
    (path / "version" / "half").write_text("half")
    (repository.path / ".1.0.partial").write_text("half a copy to a mount")
    with repository.staging() as staging:
        assert list(staging.iterdir()) == []
        assert tree(repository.path) == []


def test_two_exports_do_not_share_a_repository(repository: Repository) -> None:
    with repository.staging(), pytest.raises(RepositoryError, match="another export"), repository.staging():
        pass


@pytest.mark.slow
def test_exports_that_begin_while_another_ends_take_turns(repository: Repository) -> None:
    """The one that ends deletes the directory that the others lock."""

    def work() -> None:
        until, inside = time.monotonic() + 2, repository.path / "inside"
        while time.monotonic() < until:
            with suppress(RepositoryError), repository.staging():
                os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
                inside.unlink()

    children = [in_child(work) for _ in range(3)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]


def in_child(work: Callable[[], None]) -> int:
    """Fork a process that calls `work`, and exits with 0, or 1 after an exception. Return its id."""
    if child := os.fork():
        return child
    with suppress(BaseException):
        work()
        os._exit(0)
    os._exit(1)


# Names of Python's audit events.
CHANGES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.copyfile"}


@pytest.mark.parametrize("mount", [False, True], ids=["same file system", "mount of its own"])
@pytest.mark.parametrize("ending", ["full disk", "killed"])
@pytest.mark.parametrize("first", [True, False], ids=["first version", "second version"])
def test_wherever_publishing_stops_the_repository_holds_the_old_models_or_the_new(
    repository: Repository, first: bool, ending: str, mount: bool
) -> None:
    old = {} if first else {"m/1/model.onnx": "old", "m/config.pbtxt": "config of old"}
    new = old | {f"m/{1 if first else 2}/model.onnx": "new", "m/config.pbtxt": "config of new"}
    # Nothing renames a version and a configuration at once. The next export rewrites the configuration.
    between = new | {"m/config.pbtxt": "config of old"}
    steps, found = 0, list[dict[str, str]]()
    while new not in found[-1:]:
        for path in list(repository.path.iterdir()):
            shutil.rmtree(path)
        if old:
            publish(repository, "old")
        steps += 1
        os.waitpid(in_child(partial(stop_at, steps, ending, partial(publish, repository, "new", mount))), 0)
        found.append(models(repository.path))
        publish(repository, "newest", mount)
        assert models(repository.path)["m/config.pbtxt"] == "config of newest"
        left = [name for name in tree(repository.path.parent) if "/." in f"/{name}"]
        assert left == [], f"after step {steps}"
    assert steps > 8
    assert [each for each in found if each not in (old, new)] in ([], *([] if first else [[between]]))


def publish(repository: Repository, content: str, mount: bool = False) -> None:
    rename = Path.rename

    def across_mounts(self: Path, target: Path) -> Path:
        if (repository.path in self.parents) != (repository.path in target.parents):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return rename(self, target)

    with pytest.MonkeyPatch.context() as patch:
        if mount:
            patch.setattr(Path, "rename", across_mounts)
        with repository.staging() as staging:
            repository.publish("m", stage(staging, content), f"config of {content}")


def stop_at(step: int, ending: str, work: Callable[[], None]) -> None:
    """Call `work`, and stop before its `step`-th change of the file system. Only for a process that ends afterwards."""
    done = 0

    def count(event: str, _: object) -> None:
        nonlocal done
        if event not in CHANGES:
            return
        done += 1
        if done == step:
            if ending == "killed":
                os._exit(9)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    sys.addaudithook(count)
    work()


def models(root: Path) -> dict[str, str]:
    """Return what Triton sees: the files of directories that are models and versions, by path."""
    return {name: (root / name).read_text() for name in tree(root) if not name.startswith(".") and "/." not in name}


def test_a_failed_export_leaves_the_repository_as_it_was(repository: Repository) -> None:
    def export() -> None:
        with repository.staging() as staging:
            stage(staging)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        export()
    assert tree(repository.path) == []


def test_a_repository_that_is_a_mount_of_its_own_gets_the_same_tree(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def across_mounts(self: Path, target: Path) -> Path:
        if (repository.path in self.parents) != (repository.path in target.parents):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", across_mounts)
    for _ in range(2):
        with repository.staging() as staging:
            repository.publish("m", stage(staging), "config")
    assert tree(repository.path) == ["m/1/model.onnx", "m/2/model.onnx", "m/config.pbtxt"]
    assert tree(repository.path.parent) == [f"models/{name}" for name in tree(repository.path)]


def test_a_full_disk_leaves_no_part_of_a_model(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("export.repository.store.shutil.copyfile", full)
    monkeypatch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(OSError(errno.EXDEV, "")))
    with repository.staging() as staging:
        staged = stage(staging)
        (repository.path / "m").mkdir()
        with pytest.raises(OSError, match="No space"):
            repository.publish("m", staged, "config")
    assert tree(repository.path.parent) == []


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    tmp_path.chmod(0o500)
    yield tmp_path
    tmp_path.chmod(0o700)


@pytest.fixture
def unprivileged(read_only: Path) -> Iterator[None]:
    """Become the user nobody (65534 on every Linux), because root may write anywhere."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.usefixtures("unprivileged")
def test_a_read_only_repository_is_refused_at_once(read_only: Path) -> None:
    with pytest.raises(RepositoryError, match=r"cannot create the repository .*: Permission denied"):
        Repository(read_only / "models").require_writable()


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("")
    with pytest.raises(RepositoryError, match=r"cannot create the repository .*models"):
        Repository(tmp_path / "models").require_writable()
