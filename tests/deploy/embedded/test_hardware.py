"""What a CPU and a GPU are known to be fast with, and what is installed for them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.embedded import hardware

ROOT = Path(__file__).parents[3]


def cpu(vendor: str, name: str, flags: str, bugs: str = "") -> str:
    return f"vendor_id\t: {vendor}\nmodel name\t: {name}\nflags\t\t: fpu {flags}\nbugs\t\t: {bugs}\n"


def intel(flags: str) -> str:
    return cpu("GenuineIntel", "Intel(R) Xeon(R)", flags)


def amd(flags: str) -> str:
    return cpu("AuthenticAMD", "AMD EPYC", flags, "srso")


CPUS = {
    "Zen 4 and Zen 5": (amd("avx2 avx512f avx512_bf16 avx512_vnni"), True),
    "Zen 3": (amd("avx2 fma"), False),
    "Sapphire Rapids": (intel("avx2 avx512f avx512_bf16 amx_bf16 avx512_fp16 amx_tile amx_int8"), True),
    "Sapphire Rapids in a virtual machine without AMX": (intel("avx2 avx512f avx512_bf16 avx512_fp16"), False),
    "Cooper Lake": (intel("avx2 avx512f avx512_vnni avx512_bf16"), False),
    "Ice Lake": (intel("avx2 avx512f avx512_vnni"), False),
    "BF16 in AVX2 registers": (intel("avx2 avx_vnni avx_ne_convert"), False),
    "AVX10 beside the older flags": (intel("avx2 avx10 avx512_bf16 amx_bf16"), True),
    "AVX10 alone": (intel("avx2 avx10"), False),
    "an Arm": ("processor\t: 0\nFeatures\t: fp asimd bf16 i8mm\nCPU implementer\t: 0x41\n", False),
    "a name like a flag": (cpu("AuthenticAMD", "avx512_bf16 amx_bf16", "avx2"), False),
    "a bug like a flag": (cpu("AuthenticAMD", "AMD EPYC", "avx2", "avx512_bf16"), False),
    "several CPUs": (amd("avx2 avx512_bf16") * 2, True),
    "nothing": ("", False),
    "no UTF-8": ("flags\t: \udcff amx_bf16\n", True),
}


@pytest.mark.parametrize("name", CPUS)
def test_a_cpu_that_is_faster_in_bf16_is_known(tmp_path: Path, name: str) -> None:
    text, faster = CPUS[name]
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_bytes(os.fsencode(text))
    assert hardware.cpu_is_faster_in_bf16(cpuinfo) is faster
    assert hardware.pins({}, cpuinfo) == ("triton-openvino" if faster else "triton")


def test_a_machine_without_cpuinfo_gets_the_small_environment(tmp_path: Path) -> None:
    assert not hardware.cpu_is_faster_in_bf16(tmp_path / "cpuinfo")
    assert hardware.pins({}, tmp_path / "cpuinfo") == "triton"


@pytest.mark.parametrize(
    ("engine", "on_fast", "on_slow"),
    [
        ("", "triton-openvino", "triton"),
        ("auto", "triton-openvino", "triton"),
        ("onnxruntime", "triton", "triton"),
        ("openvino", "triton-openvino", "triton-openvino"),
        ("openvino-bf16", "triton-openvino", "triton-openvino"),
    ],
)
def test_a_named_engine_is_installed_and_another_is_not(
    tmp_path: Path, engine: str, on_fast: str, on_slow: str
) -> None:
    fast, slow = tmp_path / "fast", tmp_path / "slow"
    fast.write_text(amd("avx512_bf16"))
    slow.write_text(amd("avx2"))
    found = [hardware.pins({"PE_ONNX_ENGINE": engine}, cpuinfo) for cpuinfo in (fast, slow)]
    assert found == [on_fast, on_slow]


def test_every_answer_is_a_file_of_pins() -> None:
    for engine in ("onnxruntime", "openvino"):
        assert (ROOT / f"constraints/{hardware.pins({'PE_ONNX_ENGINE': engine})}.txt").is_file()


@pytest.mark.slow
def test_it_runs_alone_with_the_standard_library() -> None:
    """As `deploy/setup.sh` runs it, before there is an environment."""
    command = [sys.executable, "-I", "-S", str(ROOT / "deploy/embedded/hardware.py")]
    said = subprocess.run(
        command, env={"PE_ONNX_ENGINE": "openvino"}, cwd="/", capture_output=True, text=True, check=True
    )
    assert said.stdout == "triton-openvino\n"


@pytest.mark.parametrize(
    ("files", "driver"),
    [
        ({}, None),
        ({"dev/nvidiactl": "", "sys/module/nvidia/version": "580.159.04\n"}, "580.159.04"),
        ({"dev/nvidiactl": ""}, ""),
        ({"sys/module/nvidia/version": "580.159.04\n"}, None),  # a container that got no GPU
        ({"sys/module/nvidia/version": "570.86.10\n", "usr/bin/nvidia-smi": ""}, "570.86.10"),  # no device file yet
        ({"usr/bin/nvidia-smi": ""}, None),  # a package without a driver
    ],
)
def test_a_gpu_is_known_by_its_driver(tmp_path: Path, files: dict[str, str], driver: str | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert hardware.nvidia_driver(tmp_path) == driver
