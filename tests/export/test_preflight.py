"""Check preflight as a module, as a single file, and as `pe-export preflight`."""

import ast
import ctypes
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from export import preflight
from export.cli import main
from export.preflight import Gpu, Machine

H100 = Gpu("NVIDIA H100 80GB HBM3", "90", 132, 85_028_765_696)
SLICE = Gpu("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "90", 16, 10_468_982_784)
L40S = Gpu("NVIDIA L40S", "89", 142, 47_697_362_944)
HOPPER = Machine("11.1.0.106", (H100,))
FITS = "tensorrt 11.1.0.106 sm90 batch 32 on NVIDIA H100 80GB HBM3, 132 SMs, 79 GiB"
COMMAND = "pe-export PE-Core-L14-336 --from hub --engine tensorrt"
SOURCE = Path(preflight.__file__)


def plan(repository: Path, model: str, version: int, target: str, backend: str = "tensorrt") -> Path:
    directory = repository / model / str(version)
    directory.mkdir(parents=True)
    (directory / "a.plan").write_bytes(b"a plan")
    certificate = {
        "inputs": {"engine": backend, "target": target},
        "files": {"a.plan": hashlib.sha256(b"a plan").hexdigest()},
        "command": COMMAND,
    }
    (directory / "parity.json").write_text(json.dumps(certificate))
    (repository / model / "config.pbtxt").write_text(f'name: "{model}"\nbackend: "{backend}"\n')
    return directory


def test_a_plan_of_this_machine_fits(tmp_path: Path) -> None:
    plan(tmp_path, "a-vision", 1, FITS)
    assert list(preflight.misfits(tmp_path, HOPPER)) == []


@pytest.mark.parametrize(
    ("target", "machine", "reason"),
    [
        ("tensorrt 10.13.3.9 sm90 batch 32", HOPPER, "needs TensorRT 10.13.3.9, and this machine has 11.1.0.106"),
        ("tensorrt 11.1.0.107 sm90 batch 32", HOPPER, "needs TensorRT 11.1.0.107, and this machine has 11.1.0.106"),
        ("tensorrt 11.1.0.106 sm89 batch 32", HOPPER, "the plan needs compute capability 89, and this machine has 90."),
        (FITS, Machine("11.1.0", ()), "and this machine has no GPU."),
        (FITS, Machine("11.1.0", (), "the driver's words"), "has no GPU that a process can use: the driver's words."),
        (FITS, Machine("", (H100,)), "and this machine has no TensorRT"),
        (FITS, Machine("11.1.0", (H100, L40S)), "and this machine has 90, 89, so give Triton only GPUs of 90."),
        ("", HOPPER, "parity.json of version 1 does not name the plan's TensorRT and GPU"),
        ("tensorrt  sm90 batch 32", HOPPER, "does not name the plan's TensorRT and GPU"),
        ("tensorrt unknown sm90 batch 32", HOPPER, "does not name the plan's TensorRT and GPU"),
        ("tensorrt 11.1.0.106 sm90 batch 32 onto", HOPPER, "does not name the plan's TensorRT and GPU"),
    ],
)
def test_one_that_does_not_fit_is_told_with_the_remedy(
    tmp_path: Path, target: str, machine: Machine, reason: str
) -> None:
    plan(tmp_path, "a-vision", 1, target)
    [line] = preflight.misfits(tmp_path, machine)
    assert line.startswith("a-vision: ")
    assert reason in line
    remedy = "Rebuild" if machine.gpus else "Make the GPU usable, or rebuild"
    assert line.endswith(f". {remedy} the plan on the serving machine: {COMMAND}")


def test_without_a_build_number_the_three_others_decide(tmp_path: Path) -> None:
    plan(tmp_path, "a-vision", 1, FITS)
    assert list(preflight.misfits(tmp_path, Machine("11.1.0", (H100,)))) == []


@pytest.mark.parametrize(
    ("target", "gpus", "difference"),
    [
        (FITS, (SLICE,), "this machine has NVIDIA H100 80GB HBM3 MIG 1g.10gb, 16 SMs, 10 GiB"),
        (FITS, (H100, SLICE, SLICE), "this machine has NVIDIA H100 80GB HBM3 MIG 1g.10gb, 16 SMs, 10 GiB."),
        (
            f"tensorrt 11.1.0.106 sm90 batch 32 on {SLICE}",
            (H100,),
            "this machine has NVIDIA H100 80GB HBM3, 132 SMs, 79",
        ),
        (FITS, (Gpu(H100.name, "90", 114, H100.memory_bytes),), "has NVIDIA H100 80GB HBM3, 114 SMs, 79 GiB"),
        (FITS, (Gpu(H100.name, "90", 132, 2 * H100.memory_bytes),), "has NVIDIA H100 80GB HBM3, 132 SMs, 158 GiB"),
    ],
)
def test_a_plan_of_another_device_with_the_same_compute_capability_is_a_warning(
    tmp_path: Path, target: str, gpus: tuple[Gpu, ...], difference: str
) -> None:
    machine = Machine("11.1.0.106", gpus)
    plan(tmp_path, "a-vision", 1, target)
    assert list(preflight.misfits(tmp_path, machine)) == []
    [line] = preflight.cautions(tmp_path, machine)
    assert line.startswith("a-vision: the plan was built for NVIDIA H100 80GB HBM3")
    assert difference in line
    assert line.endswith(f"Rebuild the plan on the serving machine: {COMMAND}")


def test_there_is_no_warning_where_nothing_differs_or_the_plan_does_not_load_anyway(tmp_path: Path) -> None:
    plan(tmp_path, "a-vision", 1, FITS)
    plan(tmp_path, "b-vision", 1, "tensorrt 11.1.0.106 sm90 batch 32")  # A certificate without the device's name.
    (plan(tmp_path, "c-vision", 1, FITS) / "parity.json").write_text("{")
    for machine in (HOPPER, Machine("11.1.0.106", (H100, H100)), Machine("", ()), Machine("11.1.0.106", (L40S,))):
        assert list(preflight.cautions(tmp_path, machine)) == []


def test_only_what_triton_would_serve_is_asked_about(tmp_path: Path) -> None:
    plan(tmp_path, "a-vision", 9, "tensorrt 10.0.0.1 sm75 batch 1")
    plan(tmp_path, "a-vision", 10, FITS)
    plan(tmp_path, "a-text", 1, "", backend="onnxruntime")
    (plan(tmp_path, "foreign", 1, "") / "parity.json").unlink()
    (tmp_path / "empty").mkdir()
    (tmp_path / "README.md").touch()
    assert list(preflight.misfits(tmp_path, HOPPER)) == []


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"inputs": {"target": 7}, "files": {}}', "\xff"])
def test_a_certificate_that_cannot_be_read_is_no_proof(tmp_path: Path, content: str) -> None:
    (plan(tmp_path, "a-vision", 1, FITS) / "parity.json").write_bytes(content.encode("latin-1"))
    [line] = preflight.misfits(tmp_path, HOPPER)
    assert line.startswith("a-vision: parity.json of version 1 cannot be read (")


def test_a_torn_copy_is_found(tmp_path: Path) -> None:
    artifact = plan(tmp_path, "a-vision", 1, FITS) / "a.plan"
    os.truncate(artifact, 3)
    [line] = preflight.misfits(tmp_path, HOPPER)
    assert "a-vision: 1/a.plan was changed since the build." in line
    artifact.unlink()
    [line] = preflight.misfits(tmp_path, HOPPER)
    assert "a-vision: 1/a.plan is missing." in line


def test_pe_export_preflight_fails_if_a_plan_does_not_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "this_machine", lambda: HOPPER)
    plan(tmp_path, "a-vision", 1, FITS)
    assert main(["preflight", "--repository", str(tmp_path)]) == 0
    said = f"preflight: 1 TensorRT plan matches this machine: TensorRT 11.1.0.106, {H100}, compute capability 90\n"
    assert capsys.readouterr() == (said, "")
    plan(tmp_path, "b-vision", 1, "tensorrt 11.1.0.106 sm80 batch 32")
    assert main(["preflight", "--repository", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("preflight: b-vision: the plan needs compute capability 80")


def test_a_warning_does_not_keep_triton_from_starting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "this_machine", lambda: Machine("11.1.0.106", (SLICE,)))
    plan(tmp_path, "a-vision", 1, FITS)
    assert main(["preflight", "--repository", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert said.err.startswith("preflight: warning: a-vision: the plan was built for NVIDIA H100 80GB HBM3, 132 SMs")
    assert said.out.startswith("preflight: 1 TensorRT plan matches")


def run_alone(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the file alone, in a Python without this project, on a machine without TensorRT and GPU."""
    alone = shutil.copy(SOURCE, directory)
    command = [sys.executable, "-I", "-S", "-W", "error", alone, *arguments]
    return subprocess.run(command, cwd="/", env={}, capture_output=True, text=True, check=False, timeout=60)


def test_the_file_alone_runs_with_nothing_but_python(tmp_path: Path) -> None:
    models = tmp_path / "models"
    plan(models, "a-text", 1, "", backend="onnxruntime")
    result = run_alone(tmp_path, str(models))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    plan(models, "a-vision", 1, "tensorrt 1.0.0.1 sm10 batch 32")
    result = run_alone(tmp_path, str(models))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("preflight: a-vision: the plan needs TensorRT 1.0.0.1, and ")
    assert result.stderr.endswith(f"{COMMAND}\n")
    assert result.stderr.count("\n") == 1


def test_the_file_alone_says_that_there_is_no_repository(tmp_path: Path) -> None:
    for folder in ("25.01-1", "25.02-1", ".git"):
        (tmp_path / folder).mkdir()
    result = run_alone(tmp_path, str(tmp_path / "25.02-2"))
    assert (result.returncode, result.stdout) == (2, "")
    said = f"preflight: there is no model repository {tmp_path}/25.02-2, only 25.01-1, 25.02-1. Export the models"
    assert result.stderr.startswith(said)
    assert result.stderr.count("\n") == 1
    assert run_alone(tmp_path, str(tmp_path / "absent/25.02-2")).stderr.startswith(
        f"preflight: there is no model repository {tmp_path}/absent/25.02-2. Export the models"
    )
    result = run_alone(tmp_path, str(tmp_path / "preflight.py"))
    assert result.stderr == f"preflight: user {os.getuid()} cannot read {tmp_path}/preflight.py: Not a directory\n"
    assert result.returncode == 2
    assert run_alone(tmp_path).returncode == 2


def test_the_file_alone_says_that_there_is_no_model(tmp_path: Path) -> None:
    """Triton would start without models, and be ready."""
    models = tmp_path / "models"
    (models / ".staging").mkdir(parents=True)
    result = run_alone(tmp_path, str(models))
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"preflight: {models} has no model. Export the models to it first")


def test_it_is_python_3_10_and_imports_only_what_python_has() -> None:
    tree = ast.parse(SOURCE.read_text(), feature_version=(3, 10))
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {module.partition(".")[0] for module in modules} <= sys.stdlib_module_names


def test_the_version_is_read_off_the_library_that_the_loader_would_take(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for directory, version in ((first, "10.13.3"), (second, "11.1.0")):
        directory.mkdir()
        (directory / f"libnvinfer.so.{version}").touch()
        (directory / f"libnvinfer.so.{version.partition('.')[0]}").symlink_to(f"libnvinfer.so.{version}")
    assert preflight._tensorrt_version([tmp_path / "absent", second, first]) == "11.1.0"
    assert preflight._tensorrt_version([tmp_path]) == ""


def test_a_library_that_cannot_be_loaded_has_no_build_number(tmp_path: Path) -> None:
    library = tmp_path / "libnvinfer.so.11.1.0"
    library.write_bytes(b"no library")
    assert preflight._reported_version(library) == ""
    assert preflight._reported_version(Path("libc.so.6")) == ""  # A library without TensorRT's functions.
    assert preflight._tensorrt_version([tmp_path]) == "11.1.0"


class Driver:
    """A stand-in for CUDA's driver library, with these GPUs. The function `fails` returns an error."""

    def __init__(self, *gpus: Gpu, fails: str = "", raw_name: bytes | None = None) -> None:
        self.gpus, self.fails, self.raw_name = gpus, fails, raw_name

    def _status(self, function: str) -> int:
        return 100 if function == self.fails else 0

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802 - the driver's own names
        version._obj.value = 12_080
        return 0

    def cuGetErrorName(self, status: int, name: Any) -> int:  # noqa: N802
        names = {100: b"CUDA_ERROR_NO_DEVICE"}
        name._obj.value = names.get(status)
        return 0 if status in names else 1

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return self._status("cuInit")

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = len(self.gpus)
        return self._status("cuDeviceGetCount")

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:  # noqa: N802
        device._obj.value = ordinal
        return self._status("cuDeviceGet")

    def cuDeviceGetName(self, name: Any, length: int, device: ctypes.c_int) -> int:  # noqa: N802
        name.value = self.raw_name if self.raw_name is not None else self.gpus[device.value].name.encode()
        return self._status("cuDeviceGetName")

    def cuDeviceTotalMem_v2(self, size: Any, device: ctypes.c_int) -> int:  # noqa: N802
        size._obj.value = self.gpus[device.value].memory_bytes
        return self._status("cuDeviceTotalMem_v2")

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: ctypes.c_int) -> int:  # noqa: N802
        gpu = self.gpus[device.value]
        capability = int(gpu.compute_capability)
        value._obj.value = {16: gpu.multiprocessors, 75: capability // 10, 76: capability % 10}[attribute]
        return self._status("cuDeviceGetAttribute")


FUNCTIONS = [name for name in vars(Driver) if name.startswith(("cuInit", "cuDeviceGet", "cuDeviceTotal"))]


class OldDriver:
    """A stand-in for a driver that supports CUDA 12.8."""

    def __init__(self, status: int = 0) -> None:
        self.status = status

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        version._obj.value = 12_080
        return self.status


def test_the_driver_names_the_cuda_that_it_supports() -> None:
    assert preflight._cuda_version(OldDriver()) == "12.8"
    assert preflight._cuda_version(OldDriver(status=3)) == ""
    assert preflight._cuda_version(None) == ""


def test_every_gpu_that_the_driver_gives_is_described() -> None:
    blackwell = Gpu("NVIDIA RTX PRO 6000", "120", 188, 101_000_000_000)
    assert preflight._gpus(Driver(H100, SLICE, blackwell)) == ((H100, SLICE, blackwell), "")
    assert str(SLICE) == "NVIDIA H100 80GB HBM3 MIG 1g.10gb, 16 SMs, 10 GiB"


def test_why_there_is_no_gpu() -> None:
    assert preflight._gpus(Driver()) == ((), "NVIDIA's driver lists none")
    gpus, why = preflight._gpus(None)
    assert gpus == ()
    assert why.startswith("there is no libcuda.so.1, so ")
    gpus, why = preflight._gpus(Driver(H100, fails="cuInit"))
    assert why == "NVIDIA's driver, which supports CUDA 12.8, reports error 100 (CUDA_ERROR_NO_DEVICE)"
    assert preflight._error_name(Driver(), 12345) == "error 12345"


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_driver_that_reports_an_error_gives_no_gpu(function: str) -> None:
    assert len(FUNCTIONS) == 6
    gpus, why = preflight._gpus(Driver(H100, fails=function))
    assert gpus == ()
    assert "reports error 100 (CUDA_ERROR_NO_DEVICE)" in why


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b"", "unnamed GPU"),
        (b" \n", "unnamed GPU"),
        (b"NVIDIA\n H100\t ", "NVIDIA H100"),
        (b"\xff\xfeH100", "\ufffd\ufffdH100"),
    ],
)
def test_an_odd_name_of_a_gpu_is_one_readable_line(tmp_path: Path, raw: bytes, name: str) -> None:
    [gpu] = preflight._gpus(Driver(H100, raw_name=raw))[0]
    assert gpu.name == name
    plan(tmp_path, "a-vision", 1, f"tensorrt 11.1.0.106 sm90 batch 32 on {gpu}")
    machine = Machine("11.1.0.106", (gpu,))
    assert (*preflight.misfits(tmp_path, machine), *preflight.cautions(tmp_path, machine)) == ()


def test_a_machine_without_either_is_described_without_an_error() -> None:
    machine = preflight.this_machine()
    assert all(gpu.compute_capability.isdecimal() for gpu in machine.gpus)
    assert str(preflight.NEITHER) == "no TensorRT, no GPU"
