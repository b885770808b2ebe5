import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.embedded import model_scan
from deploy.embedded.engines import OPENVINO
from deploy.embedded.errors import (
    ConfigInvalid,
    EngineUnsupported,
    ModelIncomplete,
    RepositoryEmpty,
    RepositoryIsModel,
    RepositoryMissing,
    VariantIncomplete,
)


@pytest.fixture
def path(make_repository: Callable[..., Path]) -> Path:
    made: Path = make_repository("Tiny-vision", "Tiny-text")
    return made


def test_finds_every_model(path: Path) -> None:
    assert [(model.name, model.path, model.engine.backend) for model in model_scan.servable_models(path)] == [
        ("Tiny-text", path / "Tiny-text", "onnxruntime"),
        ("Tiny-vision", path / "Tiny-vision", "onnxruntime"),
    ]


def test_passes_over_files_and_hidden_directories(path: Path) -> None:
    (path / ".export-1234").mkdir()
    (path / "README.md").touch()
    assert len(model_scan.servable_models(path)) == 2


def test_follows_links(path: Path, tmp_path: Path) -> None:
    (path / "Tiny-text").rename(tmp_path / "elsewhere")
    (path / "Tiny-text").symlink_to(tmp_path / "elsewhere")
    assert tmp_path / "elsewhere" in [model.path for model in model_scan.servable_models(path)]


def test_missing_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "gone", tmp_path / "file"):
        with pytest.raises(RepositoryMissing):
            model_scan.servable_models(path)


def test_empty(tmp_path: Path) -> None:
    (tmp_path / ".hidden").mkdir()
    with pytest.raises(RepositoryEmpty):
        model_scan.servable_models(tmp_path)


def test_a_directory_of_other_things_is_empty(tmp_path: Path) -> None:
    """Its subdirectories are not called incomplete models, which should be removed."""
    (tmp_path / "pictures").mkdir()
    with pytest.raises(RepositoryEmpty):
        model_scan.servable_models(tmp_path)


def test_a_directory_of_repositories_names_them(path: Path) -> None:
    (path.parent / "pictures").mkdir()
    with pytest.raises(RepositoryEmpty) as caught:
        model_scan.servable_models(path.parent)
    assert caught.value.inside == (path,)


@pytest.mark.parametrize("given", ["Tiny-text", "Tiny-text/1"])
def test_a_single_model_is_no_repository(path: Path, given: str) -> None:
    with pytest.raises(RepositoryIsModel) as caught:
        model_scan.servable_models(path / given)
    assert caught.value.parent == path


@pytest.mark.parametrize(
    ("lost", "lacks"), [("config.pbtxt", "config.pbtxt"), ("1", "version directory"), ("1/model.onnx", "1/model.onnx")]
)
def test_half_written(path: Path, lost: str, lacks: str) -> None:
    target = path / "Tiny-text" / lost
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink()
    with pytest.raises(ModelIncomplete) as caught:
        model_scan.servable_models(path)
    assert caught.value.model == path / "Tiny-text"
    assert lacks in caught.value.lacks


def test_the_latest_version_counts(path: Path) -> None:
    (path / "Tiny-text/1").rename(path / "Tiny-text/9")
    (path / "Tiny-text/10").mkdir()
    with pytest.raises(ModelIncomplete) as caught:
        model_scan.servable_models(path)
    assert caught.value.lacks == "10/model.onnx"


@pytest.mark.parametrize(
    "line",
    [
        'backend: "tensorrt"',
        "backend:'tensorrt'",
        'platform: "tensorrt"',
        '  backend : "tensorrt" # a plan',
        'backend: "tensor" "rt"',
    ],
)
def test_an_engine_that_only_a_container_has(path: Path, line: str) -> None:
    config = path / "Tiny-text/config.pbtxt"
    config.write_text(config.read_text().replace('backend: "onnxruntime"', line))
    with pytest.raises(EngineUnsupported) as caught:
        model_scan.servable_models(path)
    assert caught.value.backend == "tensorrt"
    assert caught.value.built_for == ""


def test_a_plan_says_what_it_was_built_for(path: Path) -> None:
    config = path / "Tiny-text/config.pbtxt"
    config.write_text(config.read_text().replace("onnxruntime", "tensorrt"))
    certificate = {"inputs": {"target": "tensorrt 11.1.0.106 sm90 batch 32"}, "files": {}, "command": ""}
    (path / "Tiny-text/1/parity.json").write_text(json.dumps(certificate))
    with pytest.raises(EngineUnsupported) as caught:
        model_scan.servable_models(path)
    assert "the plan needs TensorRT 11.1.0.106, and this machine has no TensorRT" in caught.value.built_for


def test_each_engine_has_its_file_and_a_config_may_name_another(path: Path) -> None:
    config = path / "Tiny-text/config.pbtxt"
    config.write_text(config.read_text().replace("onnxruntime", "openvino"))
    with pytest.raises(ModelIncomplete) as caught:
        model_scan.servable_models(path)
    assert caught.value.lacks == "1/model.xml"
    config.write_text(config.read_text() + 'default_model_filename: "model.onnx"\n')
    assert model_scan.servable_models(path)[0].engine is OPENVINO


def test_the_backend_has_the_say_over_the_platform(path: Path) -> None:
    config = path / "Tiny-text/config.pbtxt"
    config.write_text('platform: "tensorrt_plan"\n' + config.read_text())
    model_scan.servable_models(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'name: "Tiny-text"\n  backend "onnxruntime"', "config.pbtxt is not a Triton configuration: 2:11"),
        (b'name: "Tiny-text"\nmax_bach_size: 1', 'has no field named "max_bach_size"'),
        (b'name: "\xff"', "config.pbtxt is not a Triton configuration: "),
    ],
    ids=["no text format", "unknown field", "no UTF-8"],
)
def test_a_config_that_cannot_be_parsed_names_the_place(path: Path, content: bytes, reason: str) -> None:
    (path / "Tiny-text/config.pbtxt").write_bytes(content)
    with pytest.raises(ConfigInvalid) as caught:
        model_scan.servable_models(path)
    assert caught.value.model == path / "Tiny-text"
    assert reason in caught.value.reason


def test_a_comment_changes_no_model_but_a_parameter_does(path: Path) -> None:
    config = path / "Tiny-text/config.pbtxt"
    before = model_scan.servable_models(path)
    config.write_text("# a comment\n" + config.read_text())
    assert model_scan.servable_models(path) == before
    config.write_text(config.read_text() + 'parameters { key: "a" value { string_value: "b" } }')
    assert model_scan.servable_models(path) != before


def test_one_tower_is_no_variant(path: Path) -> None:
    shutil.rmtree(path / "Tiny-text")
    with pytest.raises(VariantIncomplete) as caught:
        model_scan.servable_models(path)
    assert caught.value.missing == "Tiny-text"


def test_one_whole_variant_is_enough(make_repository: Callable[..., Path]) -> None:
    assert len(model_scan.servable_models(make_repository("Tiny-vision", "Tiny-text", "Fragile-text"))) == 3
