"""Choose the engine that runs each ONNX model: onnxruntime, or OpenVINO in FP32 or BF16, which is faster on some CPUs.

OpenVINO reads the same file. When such a model is loaded, `backend/model.py` proves by the samples that the exporter
left beside it that the embeddings are the same. A model that fails the proof is refused if a person chose the engine;
otherwise onnxruntime runs it. The configuration that Triton gets says what then holds: the engine, the precision, and
the proved bound as the parity.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from deploy.embedded.engines import ENGINES, Engine
from deploy.embedded.repository_scan import Model

AUTO: Final = "auto"
OWN: Final = "onnxruntime"
BF16: Final = "openvino-bf16"
CHOICES: Final = (AUTO, OWN, "openvino", BF16)

# The exporter's own tolerances (export/parity.py).
_LEAST_COSINE: Final = {"openvino": 0.99999, BF16: 0.999}
# The largest file of a small model. The demo's text tower (10 MB) is also too small to pass in BF16 (cosine 0.9987).
_SMALL_BYTES: Final = 16 * 2**20


class EngineChoice:
    """Which engine runs each ONNX model.

    `AUTO` chooses OpenVINO in BF16 where the CPU is faster in BF16, OpenVINO is installed, and the model is in FP32 and
    large enough to gain: a B16-224 was 1.5 to 2.3 times as fast, at a minimum cosine of 0.99997 (README.md).

    Args:
        choice: one of `CHOICES`.
        bf16: whether the CPU is faster in BF16.
        openvino: whether OpenVINO is installed.
    """

    def __init__(self, choice: str = OWN, bf16: bool = False, openvino: bool = False) -> None:
        self._choice = choice
        self._faster = BF16 if choice == AUTO and bf16 and openvino else None
        self._failed: set[str] = set()

    @property
    def forced(self) -> Engine | None:
        """The engine that a person chose for all ONNX models; None if onnxruntime or `AUTO`."""
        return None if self._choice in (AUTO, OWN) else ENGINES["openvino"]

    def for_model(self, model: Model) -> str | None:
        """Choose for one model: one of `CHOICES`, or None for the model's own engine."""
        if model.engine.backend != OWN:
            return None
        size = sum(size for name, size, _ in model.files if name.startswith(f"{model.latest}/"))
        # A model in another precision was made so on purpose.
        precision = model.config.parameters.get("precision")
        if self._faster and model.name not in self._failed and precision and precision.string_value == "fp32":
            return self._faster if size >= _SMALL_BYTES else None
        return self._choice if self.forced else None

    def fall_back(self, names: Iterable[str]) -> bool:
        """Run these models by their own engine from now on; False if they already are, or a person chose the engine."""
        failed = set(names) - self._failed if self._faster else set()
        self._failed |= failed
        return bool(failed)


def apply(config: Any, choice: str) -> None:
    """Change an ONNX model's `inference.ModelConfig` to what holds when `choice` runs it."""
    least = _LEAST_COSINE[choice]
    parameters = {
        "run_by": "openvino",
        "HINT_BF16": "YES" if choice == BF16 else "NO",
        "engine": "openvino",
        "precision": "bf16" if choice == BF16 else "fp32",
        "parity_min_cosine": f"{least}",
        # Unit vectors with this cosine differ by at most this much in any component.
        "parity_max_abs_error": f"{(2 - 2 * least) ** 0.5:.3g}",
    }
    for key, value in parameters.items():
        config.parameters[key].string_value = value


def faster_in_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether OpenVINO in BF16 is known to be faster on this CPU than onnxruntime in FP32.

    It is with AMX, and with AVX512-BF16 on an AMD: an EPYC answered twice as many requests. On another CPU that has
    only AVX512-BF16, an image took 1.3 times the CPU time.
    """
    known = set(cpuinfo.read_text().split())
    return "amx_bf16" in known or {"AuthenticAMD", "avx512_bf16"} <= known


def bf16_pays(cuda: bool, cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether BF16 on the CPU is also faster than what would run a model otherwise.

    Args:
        cuda: whether onnxruntime is the build for GPUs. It then uses the GPU, unless PE_ONNXRUNTIME_PROVIDER is cpu.
    """
    on_gpu = cuda and os.environ.get("PE_ONNXRUNTIME_PROVIDER") != "cpu"
    return not on_gpu and faster_in_bf16(cpuinfo)
