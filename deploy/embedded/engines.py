"""The engines of the embedded server, in one table: the counterpart of `export/engines`.

To add an engine, add a row here, a class to `backend/model.py`, and the requirements file that installs its package.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

_HERE: Final = Path(__file__).parent


@dataclass(frozen=True)
class Engine:
    """One Triton backend that the embedded server can run models with.

    Args:
        backend: the name of the Triton backend, as `config.pbtxt` states it.
        name: the engine's name in messages.
        file: the file in a version directory that the backend loads, unless `config.pbtxt` names another.
        aliases: further values of `backend` or `platform` that mean this engine.
        backend_class: the class in `backend/model.py` that runs the file; None if Triton itself brings the backend.
        package: the Python package in Triton's environment that the class imports; None if it imports none.
        requirements: the file that adds an optional package; None if the package is always installed.
        install_megabytes: disk space that the optional package takes, in MB.
        gpu_distribution: the distribution that makes the engine run on an NVIDIA GPU; None if it runs on the CPU only.
    """

    backend: str
    name: str
    file: str
    aliases: tuple[str, ...] = ()
    backend_class: str | None = None
    package: str | None = None
    requirements: Path | None = None
    install_megabytes: int = 0
    gpu_distribution: str | None = None


ONNXRUNTIME: Final = Engine(
    backend="onnxruntime",
    name="onnxruntime",
    file="model.onnx",
    aliases=("onnxruntime_onnx",),
    backend_class="OnnxRuntime",
    package="onnxruntime",
    gpu_distribution="onnxruntime_gpu",
)
OPENVINO: Final = Engine(
    backend="openvino",
    name="OpenVINO",
    file="model.xml",
    backend_class="OpenVino",
    package="openvino",
    requirements=_HERE / "requirements-openvino.txt",
    install_megabytes=180,
)
# Disk space that onnxruntime for CUDA takes with CUDA's libraries, in GB, beyond what a Triton environment takes.
CUDA_GIGABYTES: Final = 2.3
_PYTHON: Final = Engine(backend="python", name="Python", file="model.py")

ENGINES: Final = (ONNXRUNTIME, OPENVINO, _PYTHON)


@dataclass(frozen=True)
class Substitution:
    """A way to run a model that was exported for onnxruntime with another engine.

    Args:
        option: the value of `pe-serve --engine`.
        engine: the engine that runs the model.
        precision: the precision that the engine then computes in.
        min_cosine: the least cosine to the exporter's embeddings; a model below it is refused. These are the exporter's
            own limits (`export/parity.py`).
        parameters: what the engine's class reads from the `parameters` of `config.pbtxt`.
    """

    option: str
    engine: Engine
    precision: str
    min_cosine: float
    parameters: Mapping[str, str] = field(default_factory=dict)


OPENVINO_FP32: Final = Substitution("openvino", OPENVINO, "fp32", 0.99999, {"HINT_BF16": "NO"})
OPENVINO_BF16: Final = Substitution("openvino-bf16", OPENVINO, "bf16", 0.999, {"HINT_BF16": "YES"})
SUBSTITUTIONS: Final = MappingProxyType({row.option: row for row in (OPENVINO_FP32, OPENVINO_BF16)})


def find_engine(backend: str) -> Engine | None:
    """Return the engine for a value of `backend` or `platform`; None if the embedded server has none."""
    return next((engine for engine in ENGINES if backend in (engine.backend, *engine.aliases)), None)


def installable_names() -> str:
    """Name the engines that run exported models, for a message: "onnxruntime and OpenVINO"."""
    return " and ".join(engine.name for engine in ENGINES if engine.backend_class)
