"""Scan a model repository for the models that the embedded Triton can load.

Triton ignores a directory without `config.pbtxt` silently, and reports other damage late. The scan therefore names
what an interrupted copy or export left behind. Triton itself decides whether a model's content is sound.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deploy.embedded.engines import Engine, find_engine
from deploy.embedded.errors import (
    ConfigInvalid,
    EngineUnsupported,
    ModelIncomplete,
    RepositoryEmpty,
    RepositoryError,
    RepositoryIsModel,
    RepositoryMissing,
    VariantIncomplete,
)
from export import errors as export_errors
from export import preflight
from export.repository import config_pbtxt

_TOWERS: Final = (("-vision", "-text"), ("-text", "-vision"))


@dataclass(frozen=True)
class Model:
    """A model at the time of a scan. It compares unequal to a later scan once its configuration or a file changed."""

    name: str
    path: Path
    engine: Engine  # the row for the backend that the configuration names
    config: Any  # the parsed `inference.ModelConfig`
    versions: tuple[int, ...]
    files: tuple[tuple[str, int, int], ...]  # of all versions: name, size in bytes, time of change in ns

    @property
    def latest(self) -> int:
        """The version that Triton serves, unless the configuration says otherwise."""
        return self.versions[-1]


def servable_models(repository: Path) -> list[Model]:
    """Return every model in the repository, each checked.

    Raises:
        RepositoryMissing: there is no such directory.
        RepositoryEmpty: the directory holds no model.
        RepositoryIsModel: the directory is a model, or a version of one.
        ModelIncomplete: a model lacks a file or a version.
        ConfigInvalid: a `config.pbtxt` cannot be parsed.
        EngineUnsupported: a model needs a backend that the embedded server does not have.
        VariantIncomplete: no variant has both towers.
    """
    _refuse_other_directories(repository)
    found, errors = scan(repository)
    for error in errors.values():
        raise error
    _require_variant(repository, {model.name for model in found})
    return found


def scan(repository: Path) -> tuple[list[Model], dict[str, RepositoryError]]:
    """Return the models that are complete, and the error of each other model by its name.

    A directory whose name starts with a dot belongs to a running export and is skipped.

    Raises:
        RepositoryMissing: there is no such directory.
        RepositoryEmpty: the directory holds no model.
    """
    if not repository.is_dir():
        raise RepositoryMissing(repository)
    directories = sorted(path for path in repository.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not directories:
        raise RepositoryEmpty(repository)
    found, errors = [], {}
    for path in directories:
        try:
            found.append(_inspect(path))
        except RepositoryError as error:
            errors[path.name] = error
        except OSError:  # the directory was moved during the scan
            errors[path.name] = ModelIncomplete(path, "config.pbtxt")
    return found, errors


def _refuse_other_directories(repository: Path) -> None:
    """Raise an error if a directory is plainly not a model repository.

    Without this check, the error would call its subdirectories incomplete models, and advise to remove one.
    """
    model = repository.parent if repository.name.isdecimal() else repository
    if (model / "config.pbtxt").is_file():
        raise RepositoryIsModel(repository, model.parent)
    if repository.is_dir():
        directories = _directories(repository)
        if not any(map(_looks_like_a_model, directories)):
            raise RepositoryEmpty(repository, tuple(sorted(filter(_looks_like_a_repository, directories))))


def _directories(path: Path) -> list[Path]:
    return [entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")]


def _looks_like_a_repository(path: Path) -> bool:
    try:
        return any(map(_looks_like_a_model, _directories(path)))
    except OSError:  # a directory of another user
        return False


def _looks_like_a_model(path: Path) -> bool:
    try:
        return (path / "config.pbtxt").exists() or bool(preflight.version_numbers(path))
    except OSError:  # a directory of another user
        return False


def _require_variant(repository: Path, names: set[str]) -> None:
    # The gateway serves a variant only with both towers, and never becomes ready without a variant.
    missing = sorted(
        name.removesuffix(tower) + other for tower, other in _TOWERS for name in names if name.endswith(tower)
    )
    if not names & set(missing):
        raise VariantIncomplete(repository, missing[0] if missing else "V-vision and V-text for any V")


def _inspect(path: Path) -> Model:
    """Read a model's configuration and files. Raises RepositoryError if it cannot be served."""
    file = path / "config.pbtxt"
    if not file.is_file():
        raise ModelIncomplete(path, "config.pbtxt")
    try:
        config = config_pbtxt.parse(file.read_bytes())
    except export_errors.RepositoryError as error:
        raise ConfigInvalid(path, str(error)) from error
    backend = config.backend or config.platform or "none"
    engine = find_engine(backend)
    if engine is None:
        raise EngineUnsupported(path, backend, preflight.misfit(path, preflight.NEITHER))
    versions = preflight.version_numbers(path)
    if not versions:
        raise ModelIncomplete(path, "a version directory (1)")
    weights = path / str(versions[-1]) / (config.default_model_filename or engine.file)
    if not weights.is_file() or weights.stat().st_size == 0:
        raise ModelIncomplete(path, str(weights.relative_to(path)))
    resolved = path.resolve()
    return Model(path.name, resolved, engine, config, tuple(versions), tuple(_files(resolved, versions)))


def _files(path: Path, versions: list[int]) -> Iterator[tuple[str, int, int]]:
    for version in versions:
        for file in sorted((path / str(version)).rglob("*")):
            status = file.stat()
            yield str(file.relative_to(path)), status.st_size, status.st_mtime_ns
