"""Find the models of a repository that the embedded server will load, before Triton starts.

Triton ignores a directory without config.pbtxt in silence, and reports other faults only when it loads a model. So this
module names what a half-done copy or export leaves behind. Triton decides whether a model's content is sound.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deploy.embedded import engines
from deploy.embedded.engines import Engine
from deploy.embedded.errors import (
    ConfigUnreadable,
    EngineUnsupported,
    ModelIncomplete,
    RepositoryEmpty,
    RepositoryError,
    RepositoryMissing,
    VariantIncomplete,
)
from export import preflight
from export.errors import RepositoryError as ConfigError
from export.repository import config_pbtxt

_TOWERS: Final = (("-vision", "-text"), ("-text", "-vision"))


@dataclass(frozen=True)
class Model:
    """A model as the scan found it. Two scans of a model differ once one of its files has changed."""

    name: str
    path: Path
    engine: Engine
    config: Any
    """The parsed `config.pbtxt`, an `inference.ModelConfig`. Copy it before changing it."""
    versions: tuple[int, ...]
    files: tuple[tuple[str, int, int], ...]
    """Name, size in bytes and time of the last change in ns of every file of every version."""

    @property
    def latest(self) -> int:
        """The version that Triton serves, unless the configuration says otherwise."""
        return self.versions[-1]


def require_models(repository: Path) -> list[Model]:
    """Find every model, and insist that all are whole and make up at least one variant.

    Raises:
        RepositoryError: the first fault found.
    """
    found, wrong = scan(repository)
    for error in wrong.values():
        raise error
    _require_variant(repository, {model.name for model in found})
    return found


def scan(repository: Path) -> tuple[list[Model], dict[str, RepositoryError]]:
    """Find every whole model, and the fault of every other one by its name.

    Directories whose names start with a dot belong to a running export, and are skipped.

    Raises:
        RepositoryMissing: there is no such directory.
        RepositoryEmpty: it holds no model directory.
    """
    if not repository.is_dir():
        raise RepositoryMissing(repository)
    directories = sorted(path for path in repository.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not directories:
        raise RepositoryEmpty(repository)
    found, wrong = [], {}
    for path in directories:
        try:
            found.append(_inspect(path))
        except RepositoryError as error:
            wrong[path.name] = error
        except OSError:  # removed during the scan
            wrong[path.name] = ModelIncomplete(path, "config.pbtxt")
    return found, wrong


def _require_variant(repository: Path, names: set[str]) -> None:
    """Insist on one whole variant: the gateway serves a variant only with both towers, and is not ready without one."""
    missing = sorted(
        name.removesuffix(tower) + other for tower, other in _TOWERS for name in names if name.endswith(tower)
    )
    if not names & set(missing):
        raise VariantIncomplete(repository, missing[0] if missing else "V-vision and V-text for any V")


def _inspect(path: Path) -> Model:
    file = path / "config.pbtxt"
    if not file.is_file():
        raise ModelIncomplete(path, "config.pbtxt")
    try:
        config = config_pbtxt.parse(file.read_bytes())
    except ConfigError as error:
        raise ConfigUnreadable(path, str(error.__cause__)) from error
    engine = engines.find(config.backend, config.platform)
    if engine is None:
        name = config.backend or config.platform or "none"
        raise EngineUnsupported(path, name, preflight.misfit(path, preflight.NEITHER))
    versions = sorted(int(entry.name) for entry in path.iterdir() if entry.is_dir() and entry.name.isdecimal())
    if not any(versions):
        raise ModelIncomplete(path, "a version directory (1)")
    weights = path / str(versions[-1]) / (config.default_model_filename or engine.default_file)
    if not weights.is_file() or weights.stat().st_size == 0:
        raise ModelIncomplete(path, str(weights.relative_to(path)))
    resolved = path.resolve()
    return Model(path.name, resolved, engine, config, tuple(versions), tuple(_files(resolved, versions)))


def _files(path: Path, versions: list[int]) -> Iterator[tuple[str, int, int]]:
    for version in versions:
        for file in sorted((path / str(version)).rglob("*")):
            status = file.stat()
            yield str(file.relative_to(path)), status.st_size, status.st_mtime_ns
