"""What is published to Triton, and when. Triton's index is made up here; test_recovery.py has the real one."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.embedded import engine_choice, model_scan
from deploy.embedded import reconciler as module
from deploy.embedded.engine_choice import EngineChoice
from deploy.embedded.errors import ConfigInvalid, RunDirectoryUnusable
from deploy.embedded.events import EngineReplaced, Event, ModelLoaded, ModelRefused, ModelRemoved, ModelSkipped
from deploy.embedded.installation import Installation
from deploy.embedded.layout import Layout
from deploy.embedded.reconciler import Index, Reconciler

SERVED = [
    {"name": "Tiny-text", "version": "1", "state": "READY"},
    {"name": "Tiny-vision", "version": "1", "state": "READY"},
]
READY_2: Index = [*SERVED, {"name": "Tiny-text", "version": "2", "state": "READY"}]
REFUSED_2: Index = [*SERVED, {"name": "Tiny-text", "version": "2", "state": "UNAVAILABLE", "reason": "torn"}]


@pytest.fixture
def path(make_repository: Callable[..., Path]) -> Path:
    made: Path = make_repository("Tiny-vision", "Tiny-text")
    return made


@pytest.fixture
def layout(installation: Installation, tmp_path: Path) -> Layout:
    directory = tmp_path / "run"
    directory.mkdir()
    return Layout(directory, installation)


@pytest.fixture
def reconciler(path: Path, layout: Layout, installation: Installation) -> Reconciler:
    models = model_scan.servable_models(path)
    for model in models:
        layout.publish(model)
    made = Reconciler(
        path, installation, layout, EngineChoice(), models, failure_reason=lambda model: f"the log's word on {model}"
    )
    assert made.step(SERVED) == []
    return made


def shown(layout: Layout, model: str = "Tiny-text") -> set[str]:
    return {entry.name for entry in (layout.models / model).iterdir()} - {"config.pbtxt"}


def add_version(path: Path, number: int = 2) -> Path:
    return shutil.copytree(path / "Tiny-text/1", path / f"Tiny-text/{number}")


def test_a_new_version_is_shown_once_it_is_settled(path: Path, layout: Layout, reconciler: Reconciler) -> None:
    weights = add_version(path) / "model.onnx"
    whole = weights.read_bytes()
    for i in range(1, 4):  # it is being copied
        weights.write_bytes(whole[: i * 10])
        assert reconciler.step(SERVED) == []
        assert shown(layout) == {"1"}
    weights.write_bytes(whole)
    reconciler.step(SERVED)
    assert shown(layout) == {"1"}
    reconciler.step(SERVED)
    assert shown(layout) == {"1", "2"}
    assert reconciler.step(SERVED) == []  # Triton has not looked yet
    assert reconciler.step(READY_2) == [ModelLoaded("Tiny-text", 2)]
    assert reconciler.step(READY_2) == []


def test_what_triton_refuses_is_withdrawn_until_it_changes(path: Path, layout: Layout, reconciler: Reconciler) -> None:
    weights = add_version(path) / "model.onnx"
    for _ in range(2):
        reconciler.step(SERVED)
    assert reconciler.step(REFUSED_2) == [ModelRefused("Tiny-text", 2, "torn")]
    assert shown(layout) == {"1"}
    for _ in range(3):
        assert reconciler.step(SERVED) == []
    assert shown(layout) == {"1"}
    weights.write_bytes(b"other")
    for _ in range(2):
        reconciler.step(SERVED)
    assert shown(layout) == {"1", "2"}
    assert reconciler.step(READY_2) == [ModelLoaded("Tiny-text", 2)]


def test_the_reason_of_an_earlier_failure_refuses_no_mended_version(
    path: Path, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = add_version(path) / "model.onnx"
    for _ in range(2):
        reconciler.step(SERVED)
    assert reconciler.step(REFUSED_2) == [ModelRefused("Tiny-text", 2, "torn")]
    weights.write_bytes(b"other")
    for _ in range(4):  # Triton is busy, and its index is as before.
        assert reconciler.step(REFUSED_2) == []
    assert reconciler.step(READY_2) == [ModelLoaded("Tiny-text", 2)]
    weights.write_bytes(b"torn again")
    for _ in range(2):
        reconciler.step(READY_2)
    monkeypatch.setattr(module, "_STALE_SECONDS", 0)
    assert reconciler.step(REFUSED_2) == [ModelRefused("Tiny-text", 2, "torn")]


@pytest.fixture
def choosing(
    path: Path, installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Reconciler, Layout]:
    """A reconciler whose models OpenVINO runs, by an automatic choice."""
    monkeypatch.setattr(engine_choice, "_MIN_BYTES", 0)
    engines = frozenset({"onnxruntime", "openvino"})
    installed, choice = dataclasses.replace(installation, engines=engines), EngineChoice("auto", True, engines)
    for config in path.glob("*/config.pbtxt"):
        config.write_text(config.read_text() + 'parameters { key: "precision" value { string_value: "fp32" } }\n')
    (tmp_path / "run").mkdir()
    layout, models = Layout(tmp_path / "run", installed, choice), model_scan.servable_models(path)
    for model in models:
        layout.publish(model)
    made = Reconciler(path, installed, layout, choice, models, failure_reason=lambda model: None)
    assert made.step(SERVED) == []
    assert served_by(layout) == "openvino"
    return made, layout


def served_by(layout: Layout, model: str = "Tiny-text") -> str:
    return "openvino" if "substitute_engine" in (layout.models / model / "config.pbtxt").read_text() else "onnxruntime"


def refused(reason: str) -> Index:
    return [*SERVED, {"name": "Tiny-text", "version": "2", "state": "UNAVAILABLE", "reason": reason}]


@pytest.mark.parametrize(
    ("index", "outcome"),
    [(READY_2, [ModelLoaded("Tiny-text", 2)]), (refused("torn"), [ModelRefused("Tiny-text", 2, "torn")])],
)
def test_a_version_that_a_chosen_engine_cannot_run_is_run_by_its_own(
    path: Path, choosing: tuple[Reconciler, Layout], index: Index, outcome: list[Event]
) -> None:
    reconciler, layout = choosing
    add_version(path)
    for _ in range(2):
        reconciler.step(SERVED)
    assert reconciler.step(refused("it differs")) == [EngineReplaced("Tiny-text", "it differs")]
    assert (served_by(layout), served_by(layout, "Tiny-vision")) == ("onnxruntime", "openvino")
    assert shown(layout) == {"1", "2"}
    assert reconciler.step(refused("it differs")) == []  # Triton has not looked yet
    assert reconciler.step(index) == outcome
    assert reconciler.step(index) == []


def test_a_version_that_no_engine_can_run_is_refused_for_one_reason_too(
    path: Path, choosing: tuple[Reconciler, Layout], monkeypatch: pytest.MonkeyPatch
) -> None:
    reconciler, layout = choosing
    add_version(path)
    for _ in range(2):
        reconciler.step(SERVED)
    assert reconciler.step(refused("torn")) == [EngineReplaced("Tiny-text", "torn")]
    monkeypatch.setattr(module, "_STALE_SECONDS", 0)
    assert reconciler.step(refused("torn")) == [ModelRefused("Tiny-text", 2, "torn")]
    assert shown(layout) == {"1"}


def test_a_version_that_is_unloaded_is_no_refusal(path: Path, layout: Layout, reconciler: Reconciler) -> None:
    add_version(path)
    for _ in range(2):
        reconciler.step(SERVED)
    waiting = [*SERVED, {"name": "Tiny-text", "version": "2", "state": "UNAVAILABLE", "reason": "unloaded"}]
    assert reconciler.step(waiting) == []
    assert shown(layout) == {"1", "2"}


def test_what_triton_never_mentions_is_refused_by_the_log(
    path: Path, layout: Layout, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(path / "Tiny-text", path / "Other-text")
    for _ in range(2):
        assert reconciler.step(SERVED) == []
    assert shown(layout, "Other-text") == {"1"}
    monkeypatch.setattr(module, "_UNLISTED_SECONDS", 0)
    assert reconciler.step(SERVED) == [ModelRefused("Other-text", 1, "the log's word on Other-text")]
    assert not (layout.models / "Other-text").exists()


def test_a_model_that_goes_away_is_hidden(path: Path, layout: Layout, reconciler: Reconciler) -> None:
    shutil.rmtree(path / "Tiny-vision")
    assert reconciler.step(SERVED) == []
    assert reconciler.step(SERVED) == [ModelRemoved("Tiny-vision")]
    assert [entry.name for entry in layout.models.iterdir()] == ["Tiny-text"]


def test_a_repository_that_goes_away_takes_nothing_out_of_service(
    path: Path, layout: Layout, reconciler: Reconciler
) -> None:
    path.rename(path.with_name("elsewhere"))
    told = [event for _ in range(4) for event in reconciler.step(SERVED)]
    assert [type(event) for event in told] == [ModelSkipped]
    assert len(list(layout.models.iterdir())) == 2
    path.with_name("elsewhere").rename(path)
    assert reconciler.step(SERVED) == []


def test_a_run_directory_that_cannot_be_written_is_told_once_and_tried_again(
    path: Path, layout: Layout, reconciler: Reconciler
) -> None:
    add_version(path)
    snapshots = layout.models.with_name("snapshots")
    snapshots.rename(snapshots.with_name("elsewhere"))
    (event,) = [event for _ in range(4) for event in reconciler.step(SERVED)]
    assert isinstance(event, ModelSkipped)
    assert isinstance(event.error, RunDirectoryUnusable)
    snapshots.with_name("elsewhere").rename(snapshots)
    assert shown(layout) == {"1"}
    assert reconciler.step(SERVED) == []
    assert shown(layout) == {"1", "2"}


@pytest.mark.parametrize("engine", ["tensorrt", "openvino"])
def test_what_cannot_be_run_here_is_told_once_and_not_shown(
    path: Path, layout: Layout, reconciler: Reconciler, engine: str
) -> None:
    other = shutil.copytree(path / "Tiny-text", path / "Other-text")
    config = other / "config.pbtxt"
    config.write_text(config.read_text().replace("onnxruntime", engine) + 'default_model_filename: "model.onnx"\n')
    told = [event for _ in range(4) for event in reconciler.step(SERVED)]
    assert [type(event) for event in told] == [ModelSkipped]
    assert not (layout.models / "Other-text").exists()


def test_a_config_that_cannot_be_parsed_is_skipped_and_disturbs_nothing(
    path: Path, layout: Layout, reconciler: Reconciler
) -> None:
    config = path / "Tiny-text/config.pbtxt"
    whole = config.read_text()
    config.write_text(whole.replace("max_batch_size", "max_bach_size"))
    (event,) = [event for _ in range(4) for event in reconciler.step(SERVED)]
    assert isinstance(event, ModelSkipped)
    assert isinstance(event.error, ConfigInvalid)
    assert "max_bach_size" in event.error.reason
    assert shown(layout) == {"1"}
    config.write_text(whole)
    assert [event for _ in range(4) for event in reconciler.step(SERVED)] == []


def test_a_copy_under_way_is_not_complained_of(path: Path, reconciler: Reconciler) -> None:
    other = path / "Other-text"
    other.mkdir()
    assert reconciler.step(SERVED) == []  # a config is missing
    (other / "config.pbtxt").write_bytes((path / "Tiny-text/config.pbtxt").read_bytes())
    assert reconciler.step(SERVED) == []  # a version is missing
    shutil.copytree(path / "Tiny-text/1", other / "1")
    assert reconciler.step(SERVED) == []


def test_a_triton_started_anew_may_refuse_what_it_served(path: Path, layout: Layout, reconciler: Reconciler) -> None:
    reconciler.triton_restarted()
    refused = [SERVED[0], {**SERVED[1], "state": "UNAVAILABLE", "reason": "no memory"}]
    assert reconciler.step(refused) == [ModelRefused("Tiny-vision", 1, "no memory")]
    assert not (layout.models / "Tiny-vision").exists()
