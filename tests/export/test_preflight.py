import json
from pathlib import Path

import pytest

from export import preflight
from export.cli import main
from export.preflight import Machine

HOPPER = Machine("11.1.0", ("90",))


def plan(repository: Path, model: str, version: int, target: str, engine: str = "tensorrt") -> None:
    directory = repository / model / str(version)
    directory.mkdir(parents=True)
    inputs = {"variant": "PE-Core-L14-336", "engine": engine, "precision": "fp16", "target": target}
    (directory / "parity.json").write_text(json.dumps({"inputs": inputs}))


def test_a_plan_of_this_machine_fits(tmp_path: Path) -> None:
    plan(tmp_path, "a-vision", 1, "tensorrt 11.1.0.106 sm90 batch 32")
    assert list(preflight.misfits(tmp_path, HOPPER)) == []


@pytest.mark.parametrize(
    ("target", "machine", "reason"),
    [
        ("tensorrt 10.13.3.9 sm90 batch 32", HOPPER, "it is a plan of TensorRT 10.13.3.9, and here is 11.1.0"),
        ("tensorrt 11.1.0.106 sm89 batch 32", HOPPER, "it is for compute capability 89, and here is 90"),
        ("tensorrt 11.1.0.106 sm90 batch 32", Machine("11.1.0", ()), "and there is no GPU here"),
        ("tensorrt 11.1.0.106 sm90 batch 32", Machine("", ("90",)), "and there is no TensorRT here"),
        ("tensorrt 11.1.0.106 sm90 batch 32", Machine("11.1.0", ("90", "89")), "and here is 90, 89"),
    ],
)
def test_one_that_does_not_fit_is_told_with_the_remedy(
    tmp_path: Path, target: str, machine: Machine, reason: str
) -> None:
    plan(tmp_path, "a-vision", 1, target)
    [line] = preflight.misfits(tmp_path, machine)
    assert line.startswith("a-vision: ")
    assert reason in line
    assert line.endswith("pe-export PE-Core-L14-336 --engine tensorrt --precision fp16")


def test_only_what_triton_would_serve_is_asked_about(tmp_path: Path) -> None:
    plan(tmp_path, "a-vision", 9, "tensorrt 10.0.0.1 sm75 batch 1")
    plan(tmp_path, "a-vision", 10, "tensorrt 11.1.0.106 sm90 batch 32")
    plan(tmp_path, "a-text", 1, "", engine="onnx")
    assert list(preflight.misfits(tmp_path, HOPPER)) == []


def test_the_command_fails_if_a_plan_does_not_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "this_machine", lambda: HOPPER)
    plan(tmp_path, "a-vision", 1, "tensorrt 11.1.0.106 sm90 batch 32")
    assert main(["preflight", "--repository", str(tmp_path)]) == 0
    plan(tmp_path, "b-vision", 1, "tensorrt 11.1.0.106 sm80 batch 32")
    assert main(["preflight", "--repository", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("b-vision: it is for compute capability 80")


def test_a_machine_without_either_is_described_without_an_error() -> None:
    machine = preflight.this_machine()
    assert all(capability.isdecimal() for capability in machine.compute_capabilities)
