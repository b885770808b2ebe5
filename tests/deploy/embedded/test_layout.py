from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.embedded import engine_choice, model_scan
from deploy.embedded.installation import Installation
from deploy.embedded.layout import Layout
from export.repository import config_pbtxt


@pytest.fixture
def layout(installation: Installation, tmp_path: Path) -> Layout:
    directory = tmp_path / "run"
    directory.mkdir()
    return Layout(directory, installation)


def test_lays_out_what_triton_wants(layout: Layout, installation: Installation) -> None:
    # Real files: Triton refuses a library that a link leads out of its directory.
    python = layout.backends / "python"
    assert {entry.name for entry in python.iterdir()} == {"libtriton_python.so", "triton_python_backend_stub"}
    assert not any(entry.is_symlink() for entry in python.iterdir())
    assert (layout.backends / "onnxruntime/model.py").samefile(layout.backends / "openvino/model.py")
    assert (layout.libraries / "libpython3.11.so.1.0").resolve() == installation.libpython


def test_shows_a_model_as_it_was_found(layout: Layout, make_repository: Callable[..., Path]) -> None:
    path = make_repository("Tiny-vision", "Tiny-text")
    text, _ = model_scan.servable_models(path)
    layout.publish(text)
    (path / "Tiny-text/2").mkdir()
    (path / "Tiny-text/config.pbtxt").write_text("half")
    shown = layout.models / "Tiny-text"
    assert {entry.name for entry in shown.iterdir()} == {"config.pbtxt", "1"}
    assert config_pbtxt.parse((shown / "config.pbtxt").read_bytes()) == text.config
    assert (shown / "1").resolve() == path / "Tiny-text/1"


def test_a_full_batch_is_no_warm_up_on_a_cpu(layout: Layout) -> None:
    _, vision = model_scan.servable_models(Path(__file__).parents[3] / "model_repository")
    layout.publish(vision)
    assert len(vision.config.model_warmup) == 2
    served = config_pbtxt.parse((layout.models / vision.name / "config.pbtxt").read_bytes())
    assert len(served.model_warmup) == 1


def test_a_full_batch_is_a_warm_up_on_a_gpu(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, vision = model_scan.servable_models(Path(__file__).parents[3] / "model_repository")
    for version, provider, count in (("580.65.06", "", 2), ("580.65.06", "cpu", 1), (None, "", 1)):
        monkeypatch.setattr(engine_choice, "nvidia_driver", lambda root, version=version: version)
        monkeypatch.setenv("PE_ONNXRUNTIME_PROVIDER", provider)
        directory = tmp_path / f"run {version} {provider}"
        directory.mkdir()
        layout = Layout(directory, replace(installation, cuda=True))
        layout.publish(vision)
        served = config_pbtxt.parse((layout.models / vision.name / "config.pbtxt").read_bytes())
        assert len(served.model_warmup) == count


def test_what_is_not_shown_any_more_leaves_nothing(
    layout: Layout, make_repository: Callable[..., Path], tmp_path: Path
) -> None:
    path = make_repository("Tiny-vision", "Tiny-text")
    for model in model_scan.servable_models(path) * 2:
        layout.publish(model)
    assert len(list((tmp_path / "run/snapshots").iterdir())) == 2
    layout.withdraw("Tiny-text")
    layout.withdraw("Tiny-text")
    assert [entry.name for entry in layout.models.iterdir()] == ["Tiny-vision"]
    assert (path / "Tiny-text/1/model.onnx").exists()
    assert len(list((tmp_path / "run/snapshots").iterdir())) == 1
