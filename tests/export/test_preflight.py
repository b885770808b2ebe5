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
from export.preflight import Machine

HOPPER = Machine("11.1.0", ("90",))
FITS = "tensorrt 11.1.0.106 sm90 batch 32"
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
        ("tensorrt 10.13.3.9 sm90 batch 32", HOPPER, "the plan needs TensorRT 10.13.3.9, and this machine has 11.1.0"),
        ("tensorrt 11.1.0.106 sm89 batch 32", HOPPER, "the plan needs compute capability 89, and this machine has 90"),
        (FITS, Machine("11.1.0", ()), "and this machine has no GPU"),
        (FITS, Machine("", ("90",)), "and this machine has no TensorRT"),
        (FITS, Machine("11.1.0", ("90", "89")), "and this machine has 90, 89"),
        ("", HOPPER, "parity.json of version 1 does not name the plan's TensorRT and GPU"),
    ],
)
def test_one_that_does_not_fit_is_told_with_the_remedy(
    tmp_path: Path, target: str, machine: Machine, reason: str
) -> None:
    plan(tmp_path, "a-vision", 1, target)
    [line] = preflight.misfits(tmp_path, machine)
    assert line.startswith("a-vision: ")
    assert reason in line
    assert line.endswith(f"Rebuild the plan on the serving machine: {COMMAND}")


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
    said = "preflight: 1 TensorRT plan matches this machine: TensorRT 11.1.0, compute capability 90\n"
    assert capsys.readouterr().out == said
    plan(tmp_path, "b-vision", 1, "tensorrt 11.1.0.106 sm80 batch 32")
    assert main(["preflight", "--repository", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("preflight: b-vision: the plan needs compute capability 80")


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
    result = run_alone(tmp_path, str(tmp_path / "absent"))
    assert (result.returncode, result.stdout) == (2, "")
    said = f"preflight: cannot read the model repository {tmp_path / 'absent'}: No such file or directory\n"
    assert result.stderr == said
    assert run_alone(tmp_path).returncode == 2


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


class Driver:
    """A stand-in for CUDA's driver library, with GPUs of these compute capabilities."""

    def __init__(self, *capabilities: tuple[int, int], status: int = 0) -> None:
        self.capabilities, self.status = capabilities, status

    def cuInit(self, flags: int) -> int:  # noqa: N802 - the driver's own names
        return self.status

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = len(self.capabilities)
        return 0

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:  # noqa: N802
        device._obj.value = ordinal
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: ctypes.c_int) -> int:  # noqa: N802
        value._obj.value = self.capabilities[device.value][attribute - 75]
        return 0


def test_every_gpu_that_the_driver_gives_is_named() -> None:
    assert preflight._compute_capabilities(Driver((9, 0), (12, 0))) == ("90", "120")
    assert preflight._compute_capabilities(Driver((9, 0), status=100)) == ()  # CUDA_ERROR_NO_DEVICE
    assert preflight._compute_capabilities(None) == ()


def test_a_machine_without_either_is_described_without_an_error() -> None:
    machine = preflight.this_machine()
    assert all(capability.isdecimal() for capability in machine.compute_capabilities)
    assert str(preflight.NEITHER) == "no TensorRT, no GPU"
