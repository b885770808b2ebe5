"""ONNX models by another engine than their own: OpenVINO, in FP32 or in BF16, which pays on CPUs with AMX.

OpenVINO reads the same file. That it gives the same embeddings is proved when a model is loaded, by samples that the
exporter left beside it, and a model that fails is refused. Its configuration is shown to Triton with what then holds:
the engine, the precision, and as its parity the bound that was proved.
"""

from pathlib import Path
from typing import Final

BF16: Final = "openvino-bf16"
CHOICES: Final = ("openvino", BF16)

# The exporter's own gates (export/parity.py), and what a cosine of that much means for one number of unit vectors.
_LEAST_COSINE: Final = {"openvino": 0.99999, BF16: 0.999}


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


def has_amx(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this CPU multiplies BF16 matrices in hardware made for it."""
    return "amx_bf16" in cpuinfo.read_text().split()
