"""The choice of engine for ONNX models: onnxruntime, or OpenVINO in FP32 or BF16, which is faster on some CPUs.

OpenVINO reads the same file. When it loads a model, it must reproduce embeddings that the exporter stored beside the
model (`backend/model.py`). A model that fails is refused if `--engine` names OpenVINO; otherwise onnxruntime runs it.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from deploy.embedded.engines import ONNXRUNTIME, OPENVINO_BF16, SUBSTITUTIONS, Engine, Substitution
from deploy.embedded.model_scan import Model

AUTO: Final = "auto"
OPTIONS: Final = (AUTO, ONNXRUNTIME.backend, *SUBSTITUTIONS)

# BF16 gains nothing for a smaller model. The demo's text tower (10 MB) also misses the parity limit in BF16 (0.9987).
_MIN_BYTES: Final = 16 * 2**20


class EngineChoice:
    """The engine of each model.

    With `AUTO`, an ONNX model runs with OpenVINO in BF16 if the CPU is faster in BF16, OpenVINO is installed, and the
    model is FP32 and large enough. A B16-224 was 1.5 to 2.3 times as fast, at a minimum cosine of 0.99997 (README.md).
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

    def fall_back(self, names: Iterable[str]) -> bool:
        """Run these models with onnxruntime from now on, after they failed to load.

        Returns:
            Whether that changes the engine of any model. An engine that `--engine` names is never replaced.
        """
        failed = set(names) - self._failed if self._automatic else set()
        self._failed |= failed
        return bool(failed)


def cpu_is_faster_in_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether OpenVINO in BF16 is known to be faster on this CPU than onnxruntime in FP32.

    That is so with AMX, and with AVX512-BF16 on an AMD CPU (an EPYC had twice the throughput). On another CPU with
    AVX512-BF16 alone, an image took 1.3 times the CPU time.
    """
    known = set(cpuinfo.read_text().split())
    return "amx_bf16" in known or {"AuthenticAMD", "avx512_bf16"} <= known


def on_gpu(cuda: bool) -> bool:
    """Return whether onnxruntime will look for an NVIDIA GPU: its build is for GPUs, and no setting keeps it off."""
    return cuda and os.environ.get("PE_ONNXRUNTIME_PROVIDER") != "cpu"


def bf16_is_faster(cuda: bool, cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether OpenVINO in BF16 is faster than onnxruntime on this machine.

    Args:
        cuda: whether onnxruntime is the build for NVIDIA GPUs. It then uses the GPU, unless
            `PE_ONNXRUNTIME_PROVIDER=cpu` keeps it on the CPU.
        cpuinfo: the file that lists the CPU's features.
    """
    return not on_gpu(cuda) and cpu_is_faster_in_bf16(cpuinfo)


def _precision(model: Model) -> str:
    # The membership test comes first, because indexing a protobuf map adds a missing key.
    parameters = model.config.parameters
    return str(parameters["precision"].string_value) if "precision" in parameters else ""
