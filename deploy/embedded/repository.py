"""What of a model repository the embedded server will load, checked before Triton starts.

Triton passes over a directory without config.pbtxt in silence and lets the others fail one layer deeper, so what a
half-done copy or export leaves behind is named here. Whether the content is sound, Triton itself decides.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from deploy.embedded.errors import (
    EngineUnsupported,
    ModelIncomplete,
    RepositoryEmpty,
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
    name: str
    path: Path
    engine: str  # the backend that its config names


def models(repository: Path) -> list[Model]:
    """Every model in the repository. A directory whose name starts with a dot is a running export's, and no model.

    Raises RepositoryMissing, RepositoryEmpty, ModelIncomplete, EngineUnsupported or VariantIncomplete.
    """
    if not repository.is_dir():
        raise RepositoryMissing(repository)
    directories = sorted(path for path in repository.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not directories:
        raise RepositoryEmpty(repository)
    found = [_check(path) for path in directories]
    _require_variant(repository, {model.name for model in found})
    return found


def _require_variant(repository: Path, names: set[str]) -> None:
    """The gateway serves a variant once both of its towers are there, and is never ready without one."""
    missing = sorted(
        name.removesuffix(tower) + other for tower, other in _TOWERS for name in names if name.endswith(tower)
    )
    if not names & set(missing):
        raise VariantIncomplete(repository, missing[0] if missing else "V-vision and V-text for any V")


def _check(path: Path) -> Model:
    config = path / "config.pbtxt"
    if not config.is_file():
        raise ModelIncomplete(path, "config.pbtxt")
    fields = dict(_FIELD.findall(config.read_text(errors="replace")))
    engine = fields.get("backend") or fields.get("platform") or "none"
    if engine not in _WEIGHTS:
        raise EngineUnsupported(path, engine, preflight.misfit(path, preflight.NEITHER))
    versions = [int(entry.name) for entry in path.iterdir() if entry.is_dir() and entry.name.isdecimal()]
    if not any(versions):
        raise ModelIncomplete(path, "a version directory (1)")
    file = fields.get("default_model_filename") or _WEIGHTS[engine]
    weights = path / str(max(versions)) / file  # Triton loads the latest unless a config says otherwise
    if not weights.is_file() or weights.stat().st_size == 0:
        raise ModelIncomplete(path, str(weights.relative_to(path)))
    return Model(path.name, path.resolve(), engine)
