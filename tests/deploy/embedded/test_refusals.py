"""What `pe-serve` refuses before it starts a process: damaged repositories, environments and addresses."""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.embedded import cli

Damage = Callable[[Path], None]
TEXT = "Tiny-text/config.pbtxt"


@pytest.fixture
def repository(make_repository: Callable[..., Path]) -> Path:
    made: Path = make_repository("Tiny-vision", "Tiny-text")
    return made


@pytest.fixture
def refusal(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """refusal("--repository", path) -> what `pe-serve` prints on its way to exit status 1."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*arguments: str | Path) -> str:
        assert cli.main(["--port", "0", *map(str, arguments)]) == 1
        assert not (tmp_path / "cache").exists()  # the directory of a run, which is made before Triton is started
        return capfd.readouterr().err

    return run


def remove(path: str) -> Damage:
    def damage(repository: Path) -> None:
        target = repository / path
        for entry in target.iterdir() if target.is_dir() else ():
            entry.unlink()
        target.rmdir() if target.is_dir() else target.unlink()

    return damage


def replace(old: str, new: str) -> Damage:
    def damage(repository: Path) -> None:
        text = (repository / TEXT).read_text()
        assert old in text
        (repository / TEXT).write_text(text.replace(old, new))

    return damage


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        pytest.param(remove(TEXT), "model Tiny-text is incomplete", id="no config.pbtxt"),
        pytest.param(remove("Tiny-text/1"), "has no a version directory", id="no version directory"),
        pytest.param(remove("Tiny-text/1/model.onnx"), "has no 1/model.onnx", id="no model.onnx"),
        pytest.param(
            lambda path: os.truncate(path / "Tiny-text/1/model.onnx", 0), "has no 1/model.onnx", id="empty model.onnx"
        ),
        pytest.param(replace("onnxruntime", "tensorrt"), "Tiny-text is for Triton's tensorrt backend", id="plan"),
        pytest.param(replace("onnxruntime", "nothing"), "Tiny-text is for Triton's nothing backend", id="unknown"),
        pytest.param(
            replace("max_batch_size", "max_bach_size"),
            '/Tiny-text/config.pbtxt is not a Triton configuration: 3:1 : Message type "inference.ModelConfig" has no '
            'field named "max_bach_size"',
            id="unknown field",
        ),
        pytest.param(replace("TYPE_FP32", "TYPE_FP23"), "TYPE_FP23", id="bad dtype"),
    ],
)
def test_a_damaged_model(repository: Path, refusal: Callable[..., str], damage: Damage, said: str) -> None:
    damage(repository)
    output = refusal("--repository", repository)
    assert said in output
    assert "Tiny-vision" not in output


def test_a_busy_port(repository: Path, refusal: Callable[..., str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert f"port {port} on 127.0.0.1 is in use" in refusal("--repository", repository, "--port", str(port))


def test_no_triton_environment(
    repository: Path, refusal: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = tmp_path / "nowhere"
    monkeypatch.setenv("PE_TRITON_ENVIRONMENT", str(missing))
    output = refusal("--repository", repository)
    assert f"the Triton environment is missing: {missing} is not there" in output
    assert "make serve" in output


def skeleton(environment: Path, libpython_in: Path | None = None) -> Path:
    """Make the files of a Triton environment without OpenVINO, for a Python 3.99 that may have its shared library."""
    site_packages = environment / "lib"
    for file in ("pytriton/tritonserver/bin/tritonserver", "onnxruntime/__init__.py", "nvidia_pytriton.libs/x"):
        (site_packages / file).parent.mkdir(parents=True)
        (site_packages / file).touch()
    stub = site_packages / "pytriton/tritonserver/python_backend_stubs/3.99/triton_python_backend_stub"
    stub.parent.mkdir(parents=True)
    stub.touch()
    python = environment / "bin/python"
    python.parent.mkdir()
    directories = [None, str(libpython_in or "/nowhere")]
    facts = json.dumps({"version": "3.99", "directories": directories, "site_packages": str(site_packages)})
    python.write_text(f"#!/bin/sh\necho '{facts}'\n")
    python.chmod(0o755)
    return environment


def test_a_python_without_its_library(
    repository: Path, refusal: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = skeleton(tmp_path / "venv")
    monkeypatch.setenv("PE_TRITON_ENVIRONMENT", str(environment))
    output = refusal("--repository", repository)
    assert f"Triton needs libpython3.99.so.1.0, which {environment}/bin/python does not bring along" in output
    assert "apt-get install libpython3.99" in output


@pytest.mark.parametrize("by", ["its config", "--engine"])
def test_a_model_for_openvino_without_openvino(
    repository: Path, refusal: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    if by == "its config":
        replace("onnxruntime", "openvino")(repository)
        with (repository / TEXT).open("a") as config:
            config.write('default_model_filename: "model.onnx"\n')
    (tmp_path / "libpython3.99.so.1.0").touch()
    environment = skeleton(tmp_path / "venv", libpython_in=tmp_path)
    monkeypatch.setenv("PE_TRITON_ENVIRONMENT", str(environment))
    output = refusal("--repository", repository, *(["--engine", "openvino-bf16"] if by == "--engine" else []))
    assert f"model Tiny-text needs OpenVINO, which {environment} lacks. Add it (180 MB):" in output
    assert "requirements-openvino.txt" in output
