"""The engines of the embedded server, in one table that layout, repository scan, installation and messages read.

A new engine is a row here, a class in `backend/model.py` that runs it, and its package in the Triton environment.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True)
class Engine:
    """What runs models of one Triton backend."""

    backend: str
    """What a model's configuration names as its `backend`, and the key of the class in `backend/model.py`."""
    title: str
    """Its name in messages."""
    default_file: str
    """The file in a version directory, where a configuration names none."""
    package: str
    """The Python package that must be in the Triton environment."""
    requirements: Path | None = None
    """What installs the package, where it is installed on request only."""
    size: str = ""
    """How much disk that takes."""


_HERE: Final = Path(__file__).parent

# onnxruntime runs on a GPU where onnxruntime-gpu is installed and finds one, else on the CPU. OpenVINO runs on the CPU.
ENGINES: Final = {
    engine.backend: engine
    for engine in (
        Engine("onnxruntime", "onnxruntime", "model.onnx", "onnxruntime"),
        Engine("openvino", "OpenVINO", "model.xml", "openvino", _HERE / "requirements-openvino.txt", size="180 MB"),
    )
}
# Triton's own Python backend needs no engine of ours: its models bring their code. The resilience bench uses it.
PYTHON: Final = Engine("python", "Python", "model.py", "numpy")
# A configuration may name a platform instead of a backend.
_BY_NAME: Final = {**ENGINES, "onnxruntime_onnx": ENGINES["onnxruntime"], "python": PYTHON}


def find(backend: str, platform: str) -> Engine | None:
    """Find the engine that a configuration names; the backend takes precedence. None if there is no such engine."""
    return _BY_NAME.get(backend or platform)


def titles() -> str:
    """Name all engines, for a sentence."""
    return " and ".join(engine.title for engine in ENGINES.values())
