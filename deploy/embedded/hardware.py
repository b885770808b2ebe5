"""What this machine's CPU and GPU are fast with, and the packages that make use of it.

    python3 deploy/embedded/hardware.py

prints the name of the file in `constraints/` to make Triton's environment from. `deploy/setup.sh` runs this file alone,
before an environment exists. So this file needs only the standard library. `README.md` beside it has the measurements.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

CPUINFO: Final = Path("/proc/cpuinfo")

# onnxruntime-gpu is built for CUDA 13, which needs this release of NVIDIA's driver or a newer one.
# https://docs.nvidia.com/deploy/cuda-compatibility, "Minor Version Compatibility"
MIN_DRIVER: Final = 580


def cpu_is_faster_in_bf16(cpuinfo: Path = CPUINFO) -> bool:
    """Return whether OpenVINO in BF16 is known to be faster on this CPU than onnxruntime in FP32.

    That is so with AMX, and with AVX512-BF16 on an AMD CPU (Zen 4 and newer). Intel's CPUs with AVX512-BF16 but
    without AMX are not counted: on one that was measured, an image took 1.3 times the CPU time. AVX10 needs no rule of
    its own, because a CPU with AVX10 also lists the older flags.

    Args:
        cpuinfo: the file that lists the CPU's features. A missing file counts as a CPU that is not faster.
    """
    try:
        text = cpuinfo.read_text(errors="replace")
    except OSError:
        return False
    flags, vendors = set(_words(text, "flags")), set(_words(text, "vendor_id"))
    return "amx_bf16" in flags or ("avx512_bf16" in flags and vendors == {"AuthenticAMD"})


def _words(cpuinfo: str, field: str) -> Iterator[str]:
    """Yield the words of a field, of all CPUs."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == field:
            yield from value.split()


def nvidia_driver(root: Path = Path("/")) -> str | None:
    """Return the version of NVIDIA's driver; "" if it is unknown, None if this process can use no NVIDIA GPU.

    A container without a GPU sees the machine's kernel module too, but not the device file. A machine without a display
    may lack the device file until the first program, such as `nvidia-smi`, makes it.

    Args:
        root: the directory to look in instead of `/`.
    """
    version = root / "sys/module/nvidia/version"
    made_on_demand = version.exists() and (root / "usr/bin/nvidia-smi").exists()
    if not (root / "dev/nvidiactl").exists() and not made_on_demand:
        return None
    try:
        return version.read_text().strip()
    except OSError:
        return ""


def pins(environment: Mapping[str, str], cpuinfo: Path = CPUINFO) -> str:
    """Return the name of the file in `constraints/` for Triton's environment, without `.txt`.

    OpenVINO takes 180 MB, so it is installed only where `pe-serve` then uses it.

    Args:
        environment: the variables; `PE_ONNX_ENGINE` has the meaning of `pe-serve --engine`.
        cpuinfo: as for `cpu_is_faster_in_bf16`.
    """
    engine = environment.get("PE_ONNX_ENGINE") or "auto"
    openvino = engine.startswith("openvino") or (engine == "auto" and cpu_is_faster_in_bf16(cpuinfo))
    return "triton-openvino" if openvino else "triton"


if __name__ == "__main__":
    print(pins(os.environ))
