"""The choice of engine for ONNX models: onnxruntime, or OpenVINO in FP32 or BF16, which is faster on some CPUs.

OpenVINO reads the same file. When it loads a model, it must reproduce embeddings that the exporter stored beside the
model (`backend/model.py`). A model that fails is refused if `--engine` names OpenVINO; otherwise onnxruntime runs it.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from deploy.embedded.engines import ONNXRUNTIME, OPENVINO_BF16, SUBSTITUTIONS, Engine, Substitution
from deploy.embedded.hardware import CPUINFO, cpu_is_faster_in_bf16, nvidia_driver
from deploy.embedded.model_scan import Model

AUTO: Final = "auto"
OPTIONS: Final = (AUTO, ONNXRUNTIME.backend, *SUBSTITUTIONS)

# BF16 gains nothing for a smaller model. The demo's text tower (10 MB) also comes close to the parity limit in BF16: on
# an EPYC, the smallest cosine of 208 samples was 0.9991.
_MIN_BYTES: Final = 16 * 2**20


class EngineChoice:
    """The engine of each model.

    With `AUTO`, an ONNX model runs with OpenVINO in BF16 if the CPU is faster in BF16, OpenVINO is installed, and the
    model is FP32 and large enough. `README.md` beside this file has the measurements.
    Only FP32 models are replaced, because a lower precision was the exporter's explicit choice.

    Args:
        option: one of `OPTIONS`.
        bf16: whether BF16 is faster than onnxruntime on this machine; see `bf16_is_faster`.
        installed: the backends that Triton's environment has packages for.
    """

    def __init__(
        self, option: str = ONNXRUNTIME.backend, bf16: bool = False, installed: frozenset[str] = frozenset()
    ) -> None:
        automatic = option == AUTO and bf16 and OPENVINO_BF16.engine.backend in installed
        # At most one of the two is set. With neither, every model runs with its own engine.
        self._automatic = OPENVINO_BF16 if automatic else None
        self._forced = SUBSTITUTIONS.get(option)
        self._failed: set[str] = set()

    def substitution_for(self, model: Model) -> Substitution | None:
        """Return how another engine runs the model; None if the engine that its `config.pbtxt` names runs it."""
        if model.engine is not ONNXRUNTIME:
            return None
        if self._automatic is None or model.name in self._failed:
            return self._forced
        size = sum(size for name, size, _ in model.files if name.startswith(f"{model.latest}/"))
        return self._automatic if _precision(model) == "fp32" and size >= _MIN_BYTES else None

    def engine_for(self, model: Model) -> Engine:
        """Return the engine that runs the model."""
        substitution = self.substitution_for(model)
        return substitution.engine if substitution else model.engine

    def fall_back(self, models: Iterable[Model]) -> frozenset[str]:
        """Run these models with onnxruntime from now on, after they failed to load.

        Returns:
            The names of the models whose engine changes. An engine that `--engine` names is never replaced.
        """
        changed = frozenset(m.name for m in models if self._automatic and self.substitution_for(m) is self._automatic)
        self._failed |= changed
        return changed


def on_gpu(cuda: bool, root: Path = Path("/")) -> bool:
    """Return whether onnxruntime will use an NVIDIA GPU: its build, the driver and the settings allow it."""
    return cuda and os.environ.get("PE_ONNXRUNTIME_PROVIDER") != "cpu" and nvidia_driver(root) is not None


def bf16_is_faster(cuda: bool, cpuinfo: Path = CPUINFO, root: Path = Path("/")) -> bool:
    """Return whether OpenVINO in BF16 is faster than onnxruntime on this machine.

    Args:
        cuda: whether onnxruntime is the build for NVIDIA GPUs. It then uses the GPU if there is one, unless
            `PE_ONNXRUNTIME_PROVIDER=cpu` keeps it on the CPU.
        cpuinfo: the file that lists the CPU's features.
        root: where to look for the GPU, as for `nvidia_driver`.
    """
    return not on_gpu(cuda, root) and cpu_is_faster_in_bf16(cpuinfo)


def _precision(model: Model) -> str:
    # The membership test comes first, because indexing a protobuf map adds a missing key.
    parameters = model.config.parameters
    return str(parameters["precision"].string_value) if "precision" in parameters else ""
