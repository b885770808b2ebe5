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
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from export.errors import RepositoryError

CONFIG: Final = "config.pbtxt"


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
            raise RepositoryError(f"there is no model repository at {self.path}")
        return sorted(entry.name for entry in self.path.iterdir() if entry.is_dir())

    def latest_version(self, model: str) -> int:
        """Return the highest version number of a model; 0 if the model has no version."""
        directory = self.path / model
        names = [entry.name for entry in directory.iterdir() if entry.is_dir()] if directory.is_dir() else []
        return max((int(name) for name in names if name.isdecimal()), default=0)

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
        directory.mkdir(exist_ok=True)
        handle = os.open(directory, os.O_RDONLY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RepositoryError(f"another export is writing to {self.path}") from None
            _empty(directory)
            for partial in self.path.glob(".*.partial"):  # `_move` names its files so.
                partial.unlink()
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
            _move(staged, directory / str(version), self.path)
            self.write_config(model, config)
        else:
            complete = staged.with_name(f"{model}.complete")
            (complete / str(version)).parent.mkdir()
            staged.rename(complete / str(version))
            (complete / CONFIG).write_text(config, encoding="utf-8")
            _move(complete, directory, self.path)
        return version

    def read_config(self, model: str) -> str:
        """Return the text of a model's `config.pbtxt`; empty if the file does not exist."""
        path = self.path / model / CONFIG
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    def write_config(self, model: str, config: str) -> None:
        """Replace a model's `config.pbtxt` atomically."""
        partial = self.path / model / f".{CONFIG}.partial"
        partial.write_text(config, encoding="utf-8")
        partial.replace(self.path / model / CONFIG)


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
    finally:
        for partial in arrived.values():
            partial.unlink(missing_ok=True)
        shutil.rmtree(assembled, ignore_errors=True)
    shutil.rmtree(source)


def _flush(directory: Path) -> None:
    """Flush every file to disk before the rename, so that a power failure afterwards leaves complete files."""
    for path in directory.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def _empty(directory: Path) -> None:
    for entry in directory.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
