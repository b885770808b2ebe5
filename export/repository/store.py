"""A Triton model repository on disk: `<model>/config.pbtxt` and `<model>/<version>/`. Publishing is atomic.

Triton loads every directory in a repository as a model, hidden directories included. It loads every directory of a
model whose name is a number as a version (core, src/model_repository_manager). So a model is assembled beside the
repository and moved in by one rename. If the repository is a mount of its own, such a rename is impossible. Then the
model's files are first copied into the repository as plain files, which Triton ignores.
"""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from export.errors import RepositoryError
from export.preflight import version_numbers

CONFIG: Final = "config.pbtxt"
# Files and directories that a killed export leaves in the repository or in a model.
_PARTIAL: Final = ".*.partial"


class Repository:
    """A model repository to which this process adds models."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def require_writable(self) -> None:
        """Check that models can be added. Create the directory if it does not exist.

        Raises:
            RepositoryError: the directory cannot be created or written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RepositoryError(f"cannot create the repository {self.path}: {error.strerror}") from error
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise RepositoryError(f"cannot write to the repository {self.path}: permission denied")

    def models(self) -> list[str]:
        """List the names of all directories that Triton would load as models, sorted.

        Raises:
            RepositoryError: there is no repository.
        """
        if not self.path.is_dir():
            raise RepositoryError(
                f"there is no model repository at {self.path}: export a model to it, or name another with --repository"
            )
        return sorted(entry.name for entry in self.path.iterdir() if entry.is_dir())

    def latest_version(self, model: str) -> int:
        """Return the highest version number of a model; 0 if the model has no version."""
        directory = self.path / model
        return max(version_numbers(directory), default=0) if directory.is_dir() else 0

    def version_directory(self, model: str, version: int) -> Path:
        """Return the directory of a version, whether it exists or not."""
        return self.path / model / str(version)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Create an empty directory outside Triton's view, and delete it afterwards.

        The directory is locked, so that only one export at a time writes to the repository. Files that a killed export
        left behind are deleted first.

        Raises:
            RepositoryError: another export holds the lock.
        """
        resolved = self.path.resolve()
        parent = resolved.parent if os.access(resolved.parent, os.W_OK) else Path(tempfile.gettempdir())
        directory = parent / f".{resolved.name}.pe-export"
        try:
            handle = _lock(directory)
        except BlockingIOError:
            raise RepositoryError(f"another export is writing to {self.path}: try again when it has ended") from None
        try:
            for left in (*directory.iterdir(), *self.path.glob(_PARTIAL), *self.path.glob(f"*/{_PARTIAL}")):
                _remove(left)
            try:
                yield directory
            finally:
                shutil.rmtree(directory, ignore_errors=True)
        finally:
            os.close(handle)

    def publish(self, model: str, staged: Path, config: str) -> int:
        """Move a directory into the repository as the newest version of a model.

        Args:
            staged: the version directory, inside `staging`.
            config: the text of the model's `config.pbtxt`.

        Returns:
            The number of the new version.
        """
        version = self.latest_version(model) + 1
        directory = self.path / model
        _flush(staged)
        if directory.is_dir():
            with self._partial_config(model, config) as partial:  # A full disk shows before the version is there.
                _move(staged, directory / str(version), self.path)
                partial.replace(directory / CONFIG)
        else:
            complete = staged.with_name(f"{model}.complete")
            (complete / str(version)).parent.mkdir()
            staged.rename(complete / str(version))
            (complete / CONFIG).write_text(config, encoding="utf-8")
            _move(complete, directory, self.path)
        return version

    def read_config(self, model: str) -> str:
        """Return the text of a model's `config.pbtxt`; empty if the file does not exist.

        Bytes that are not UTF-8 become replacement characters, which no configuration has.
        """
        path = self.path / model / CONFIG
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""

    def write_config(self, model: str, config: str) -> None:
        """Replace a model's `config.pbtxt` atomically."""
        with self._partial_config(model, config) as partial:
            partial.replace(self.path / model / CONFIG)

    @contextmanager
    def _partial_config(self, model: str, config: str) -> Iterator[Path]:
        """Write a model's `config.pbtxt` to a file beside it. Delete the file if the caller does not move it."""
        partial = self.path / model / f".{CONFIG}.partial"
        try:
            partial.write_text(config, encoding="utf-8")
            yield partial
        finally:
            partial.unlink(missing_ok=True)


def _lock(directory: Path) -> int:
    """Create and lock a directory that whoever holds the lock may delete. Return its handle.

    Raises:
        BlockingIOError: another process holds the lock.
    """
    while True:
        with suppress(FileExistsError):
            directory.mkdir()
        with suppress(FileNotFoundError):
            handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            with ExitStack() as unless_locked:
                unless_locked.callback(os.close, handle)
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(handle), directory.stat()):
                    unless_locked.pop_all()
                    return handle


def _move(source: Path, target: Path, root: Path) -> None:
    """Rename a directory. Across file systems, copy its files to plain files in `root`, and assemble them there."""
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    else:
        return
    files = [path.relative_to(source) for path in source.rglob("*") if path.is_file()]
    arrived = {relative: root / f".{target.name}.{i}.partial" for i, relative in enumerate(files)}
    assembled = target.with_name(f".{target.name}.partial")
    try:
        for relative, partial in arrived.items():
            shutil.copyfile(source / relative, partial)
        for relative, partial in arrived.items():
            (assembled / relative).parent.mkdir(parents=True, exist_ok=True)
            partial.rename(assembled / relative)
        assembled.rename(target)
    except BaseException:
        for partial in arrived.values():
            partial.unlink(missing_ok=True)
        shutil.rmtree(assembled, ignore_errors=True)
        raise


def _flush(directory: Path) -> None:
    """Flush every file to disk before the rename, so that a power failure afterwards leaves complete files."""
    for path in directory.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
