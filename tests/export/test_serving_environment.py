"""Check that pe-export names the missing package in an environment that only serves."""

import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from export.cli import main

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(find_spec("torch") is not None, reason="this environment exports")
def test_what_is_missing_is_named_with_its_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["PE-Demo-T8-64", "--repository", str(tmp_path / "models")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("pe-export: ")
    assert " is not installed in this environment. In a checkout, `deploy/setup.sh export` makes " in error
    assert error.count("\n") == 1
    assert not (tmp_path / "models").exists()


def test_listing_needs_neither_torch_nor_onnxruntime(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--repository", str(tmp_path)]) == 0
    assert "PE-Core-G14-448" in capsys.readouterr().out


def test_the_extra_for_gpus_is_the_exporters_but_for_the_engines() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    shared = set(extras["export"]) & set(extras["gpu"])
    assert {engine.partition(">")[0] for engine in set(extras["export"]) - shared} == {"onnxruntime", "openvino"}
    assert {engine.partition(">")[0] for engine in set(extras["gpu"]) - shared} == {"onnxruntime-gpu", "tensorrt"}
