"""ONNX models by another engine than their own: OpenVINO, in FP32 or in BF16, which pays on some CPUs.

OpenVINO reads the same file. That it gives the same embeddings is proved when a model is loaded, by samples that the
exporter left beside it. A model that fails is refused where a person chose the engine, and else run by its own. Its
configuration is shown to Triton with what then holds: the engine, the precision, and as its parity the bound that was
proved.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from deploy.embedded.repository import Model

AUTO: Final = "auto"
OWN: Final = "onnxruntime"
BF16: Final = "openvino-bf16"
CHOICES: Final = (AUTO, OWN, "openvino", BF16)

# The exporter's own gates (export/parity.py), and what a cosine of that much means for one number of unit vectors.
_LEAST_COSINE: Final = {"openvino": 0.99999, BF16: 0.999}
# What BF16 may stand in for. A model that was made coarser on purpose is its maker's choice.
_FP32: Final = re.compile(rb'key: "precision"\s+value\s*{\s*string_value: "fp32"')
# Of a smaller model there is nothing to gain; the demo's text tower (10 MB) is also too small to pass in BF16 (0.9987).
_WORTHWHILE_BYTES: Final = 16 * 2**20


class RunBy:
    """What each ONNX model is run by.

    Left to us (``AUTO``), that is OpenVINO in BF16 where the CPU is faster in it, OpenVINO is there, and the model is
    FP32 and large enough to gain: a B16-224 was 1.5 to 2.3 times as fast, at a minimum cosine of 0.99997 (README.md).

    Args:
        choice: of ``CHOICES``.
        bf16: whether the CPU is faster in it.
        openvino: whether it is there.
    """

    def __init__(self, choice: str = OWN, bf16: bool = False, openvino: bool = False) -> None:
        self._choice = choice
        self._faster = BF16 if choice == AUTO and bf16 and openvino else None
        self._failed: set[str] = set()

    @property
    def insisted(self) -> str | None:
        """Another engine than their own that a person chose for all of them."""
        return None if self._choice in (AUTO, OWN) else self._choice

    def of(self, model: Model) -> str | None:
        """The choice for this model; None: its own engine."""
        if not model.engine.startswith("onnxruntime"):
            return None
        latest = sum(size for name, size, _ in model.files if name.startswith(f"{model.latest}/"))
        if self._faster and model.name not in self._failed and _FP32.search(model.config):
            return self._faster if latest >= _WORTHWHILE_BYTES else None
        return self.insisted

    def fall_back(self, names: Iterable[str]) -> bool:
        """From now on these are run by their own engine; False if they are already, or a person insisted."""
        failed = set(names) - self._failed if self._faster else set()
        self._failed |= failed
        return bool(failed)


def configured(config: bytes, choice: str) -> bytes:
    """An ONNX model's ``config.pbtxt`` with what the choice changes. Of equal keys in it the last one holds."""
    least = _LEAST_COSINE[choice]
    parameters = {
        "run_by": "openvino",
        "HINT_BF16": "YES" if choice == BF16 else "NO",
        "engine": "openvino",
        "precision": "bf16" if choice == BF16 else "fp32",
        "parity_min_cosine": f"{least}",
        "parity_max_abs_error": f"{(2 - 2 * least) ** 0.5:.3g}",
    }
    entries = (f'parameters {{ key: "{k}" value {{ string_value: "{v}" }} }}' for k, v in parameters.items())
    return b"\n".join([config, *map(str.encode, entries), b""])


def faster_in_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether OpenVINO in BF16 is known to be faster on this CPU than onnxruntime in FP32.

    With AMX it is, and with AVX512-BF16 on an AMD (an EPYC answered twice as much). On another CPU with AVX512-BF16
    alone an image took 1.3 times the CPU.
    """
    known = set(cpuinfo.read_text().split())
    return "amx_bf16" in known or {"AuthenticAMD", "avx512_bf16"} <= known


def bf16_pays(cuda: bool, cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether it is also faster than what would run a model else: a GPU, where onnxruntime is the one for it (``cuda``)
    and was not told to stay on the CPU.
    """
    on_gpu = cuda and os.environ.get("PE_ONNXRUNTIME_PROVIDER") != "cpu"
    return not on_gpu and faster_in_bf16(cpuinfo)
