"""A Triton model repository on disk, `<model>/config.pbtxt` and `<model>/<version>/`; a model appears whole or not.

Triton takes every directory in a repository for a model, hidden ones too, and every directory in a model whose name is
a number for a version (core, src/model_repository_manager). So a model is made ready beside the repository and moved in
by one rename; where that is impossible (the repository is a mount of its own) its parts first arrive as plain files,
which Triton ignores.
"""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from export.errors import RepositoryError

CONFIG = "config.pbtxt"


class Repository:
    """A model repository that this process may add models to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def require_writable(self) -> None:
        """RepositoryError unless models can be added; makes the directory if it is not there yet."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RepositoryError(f"cannot make the repository {self.path}: {error.strerror}") from error
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise RepositoryError(f"cannot write to the repository {self.path}: permission denied")

    def models(self) -> list[str]:
        """Every directory that Triton would take for a model, by name."""
        if not self.path.is_dir():
            raise RepositoryError(f"there is no model repository at {self.path}")
        return sorted(entry.name for entry in self.path.iterdir() if entry.is_dir())

    def latest_version(self, model: str) -> int:
        """The highest version number of a model; 0 if it has none."""
        directory = self.path / model
        names = [entry.name for entry in directory.iterdir() if entry.is_dir()] if directory.is_dir() else []
        return max((int(name) for name in names if name.isdecimal()), default=0)

    def version_directory(self, model: str, version: int) -> Path:
        return self.path / model / str(version)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """An empty directory that Triton does not look into, removed afterwards; one export at a time per repository.

        What a killed run left there is removed first.
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
            for partial in self.path.glob(".*.partial"):  # see `_move`
                partial.unlink()
            try:
                yield directory
            finally:
                shutil.rmtree(directory, ignore_errors=True)
        finally:
            os.close(handle)

    def publish(self, model: str, staged: Path, config: str) -> int:
        """Make the files in `staged` the newest version of a model, and `config` its configuration; returns the
        version.
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
        """The text of a model's configuration; empty if it has none."""
        path = self.path / model / CONFIG
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    def write_config(self, model: str, config: str) -> None:
        """Replace a model's configuration in one step."""
        partial = self.path / model / f".{CONFIG}.partial"
        partial.write_text(config, encoding="utf-8")
        partial.replace(self.path / model / CONFIG)


def _move(source: Path, target: Path, root: Path) -> None:
    """Rename a directory, or, across file systems, copy its files to plain files in `root` and assemble it there."""
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
    """Have the disk confirm every file, so that a power cut after the rename finds them whole."""
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
