"""What a repository holds, with the models of the demo that the project carries."""

import json
import shutil
from pathlib import Path

import pytest

from export.repository import holding
from export.repository.certificate import FILE_NAME
from export.variants import VARIANTS, find_variant

ROOT = Path(__file__).parents[3]
DEMO = find_variant("PE-Demo-T8-64")
VISION, TEXT = (DEMO.model_name(tower) for tower in ("vision", "text"))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for model in (VISION, TEXT):
        shutil.copytree(ROOT / "model_repository" / model, tmp_path / "models" / model)
    return tmp_path / "models"


def test_a_whole_variant_is_found_with_its_weights(repository: Path) -> None:
    held = holding.find(repository)
    assert held is not None
    assert held.variant is DEMO
    assert held.space.variant == DEMO.name
    assert held.checkpoint_source == "PE-Demo-T8-64.safetensors"
    assert held.summary == ("vision onnx fp32 (minimum cosine 1.0000000), text onnx fp32 (minimum cosine 1.0000000)")
    assert holding.find(repository, DEMO) == held
    assert holding.find(repository, VARIANTS["PE-Core-B16-224"]) is None


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    assert holding.find(tmp_path) is None
    assert holding.find(tmp_path / "absent") is None


@pytest.mark.parametrize(
    "missing",
    [TEXT, f"{TEXT}/config.pbtxt", f"{VISION}/1/model.onnx", f"{VISION}/1/parity.npz", f"{TEXT}/1/{FILE_NAME}"],
)
def test_what_an_interrupted_copy_lacks_is_noticed(repository: Path, missing: str) -> None:
    path = repository / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert holding.find(repository) is None


def test_a_new_version_that_is_not_whole_is_noticed(repository: Path) -> None:
    (repository / TEXT / "2").mkdir()
    assert holding.find(repository) is None


def edit(repository: Path, model: str, **inputs: object) -> None:
    path = repository / model / "1" / FILE_NAME
    certificate = json.loads(path.read_text())
    certificate["inputs"] |= inputs
    path.write_text(json.dumps(certificate))


def test_towers_with_different_weights_are_not_a_variant(repository: Path) -> None:
    edit(repository, TEXT, space={"variant": DEMO.name, "checkpoint_sha256": "0" * 64})
    assert holding.find(repository) is None


def test_models_of_another_version_of_the_exporter_are_found_and_recognized(repository: Path) -> None:
    held = holding.find(repository)
    assert held is not None
    assert not held.of_older_code
    edit(repository, VISION, code_sha256="0" * 64)
    held = holding.find(repository)
    assert held is not None
    assert held.of_older_code
