"""What of a model repository the embedded server will load, checked before Triton starts.

Triton passes over a directory without config.pbtxt in silence and lets the others fail one layer deeper, so what a
half-done copy or export leaves behind is named here. Whether the content is sound, Triton itself decides.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.embedded.errors import (
    EngineUnsupported,
    ModelIncomplete,
    RepositoryEmpty,
    RepositoryError,
    RepositoryMissing,
    VariantIncomplete,
)
from export import preflight

# config.pbtxt is protobuf text. Only these fields are needed here, and this environment's only parser for it takes
# longer to import than everything else in pe-serve.
_FIELD = re.compile(r"""^\s*(backend|platform|default_model_filename)\s*:\s*["']([^"']*)["']""", re.MULTILINE)
_TOWERS = (("-vision", "-text"), ("-text", "-vision"))
# Each engine's file where a config names none.
_WEIGHTS = {
    "onnxruntime": "model.onnx",
    "onnxruntime_onnx": "model.onnx",
    "openvino": "model.xml",
    "python": "model.py",
}


@dataclass(frozen=True)
class Model:
    """A model as it was when it was looked at; unequal to what it is once one of its files has changed."""

    name: str
    path: Path
    engine: str  # the backend that its config names
    config: bytes  # config.pbtxt
    versions: tuple[int, ...]
    files: tuple[tuple[str, int, int], ...]  # of all versions: name, size, and time of change in ns

    @property
    def latest(self) -> int:
        """What Triton serves, unless the config says otherwise."""
        return self.versions[-1]


def models(repository: Path) -> list[Model]:
    """Every model in the repository.

    Raises RepositoryMissing, RepositoryEmpty, ModelIncomplete, EngineUnsupported or VariantIncomplete.
    """
    found, wrong = look(repository)
    for error in wrong.values():
        raise error
    _require_variant(repository, {model.name for model in found})
    return found


def look(repository: Path) -> tuple[list[Model], dict[str, RepositoryError]]:
    """Every model that is whole, and what is wrong with the others, by name.

    A directory whose name starts with a dot is a running export's, and no model.

    Raises RepositoryMissing or RepositoryEmpty.
    """
    if not repository.is_dir():
        raise RepositoryMissing(repository)
    directories = sorted(path for path in repository.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not directories:
        raise RepositoryEmpty(repository)
    found, wrong = [], {}
    for path in directories:
        try:
            found.append(_check(path))
        except RepositoryError as error:
            wrong[path.name] = error
        except OSError:  # it was moved away just now
            wrong[path.name] = ModelIncomplete(path, "config.pbtxt")
    return found, wrong


def _require_variant(repository: Path, names: set[str]) -> None:
    """The gateway serves a variant once both of its towers are there, and is never ready without one."""
    missing = sorted(
        name.removesuffix(tower) + other for tower, other in _TOWERS for name in names if name.endswith(tower)
    )
    if not names & set(missing):
        raise VariantIncomplete(repository, missing[0] if missing else "V-vision and V-text for any V")


def _check(path: Path) -> Model:
    file = path / "config.pbtxt"
    if not file.is_file():
        raise ModelIncomplete(path, "config.pbtxt")
    config = file.read_bytes()
    fields = dict(_FIELD.findall(config.decode(errors="replace")))
    engine = fields.get("backend") or fields.get("platform") or "none"
    if engine not in _WEIGHTS:
        raise EngineUnsupported(path, engine, preflight.misfit(path, preflight.NEITHER))
    versions = sorted(int(entry.name) for entry in path.iterdir() if entry.is_dir() and entry.name.isdecimal())
    if not any(versions):
        raise ModelIncomplete(path, "a version directory (1)")
    name = fields.get("default_model_filename") or _WEIGHTS[engine]
    weights = path / str(versions[-1]) / name
    if not weights.is_file() or weights.stat().st_size == 0:
        raise ModelIncomplete(path, str(weights.relative_to(path)))
    resolved = path.resolve()
    return Model(path.name, resolved, engine, config, tuple(versions), tuple(_files(resolved, versions)))


def _files(path: Path, versions: list[int]) -> Iterator[tuple[str, int, int]]:
    for version in versions:
        for file in sorted((path / str(version)).rglob("*")):
            status = file.stat()
            yield str(file.relative_to(path)), status.st_size, status.st_mtime_ns
