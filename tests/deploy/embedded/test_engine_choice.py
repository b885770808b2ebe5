"""The choice of engine for ONNX models, and that OpenVINO gives the same embeddings."""

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import numpy as np
import pytest

from deploy.embedded import engine_choice, model_scan
from deploy.embedded.endpoints import on_ports
from deploy.embedded.engine_choice import EngineChoice
from deploy.embedded.engines import OPENVINO_BF16, Engine, find_engine
from deploy.embedded.events import EngineReplaced, Event, ModelLoaded, ModelRefused
from deploy.embedded.installation import Installation, candidate_environments, find
from deploy.embedded.layout import Layout
from deploy.embedded.model_scan import Model
from deploy.embedded.reconciler import Reconciler
from deploy.embedded.signals import Signals
from deploy.embedded.triton_process import TritonProcess
from export.repository.config_pbtxt import parse
from tests.pictures import base64_image, flat
from tests.running import PeServe

ROOT = Path(__file__).parents[3]
OPENVINO_INSTALLED = frozenset({"onnxruntime", "openvino", "python"})


def test_only_onnx_models_are_changed(
    installation: Installation, make_repository: Callable[..., Path], tmp_path: Path
) -> None:
    path = make_repository("Tiny-vision", "Tiny-text")
    config = path / "Tiny-text/config.pbtxt"
    config.write_text(re.sub(r'"onnxruntime"', '"openvino"', config.read_text()))
    (path / "Tiny-text/1/model.onnx").rename(path / "Tiny-text/1/model.xml")
    (tmp_path / "run").mkdir()
    layout = Layout(tmp_path / "run", installation, EngineChoice("openvino-bf16"))
    for model in model_scan.servable_models(path):
        layout.publish(model)
    shown = {name: (layout.models / name / "config.pbtxt").read_text() for name in ("Tiny-vision", "Tiny-text")}
    assert "HINT_BF16" in shown["Tiny-vision"]
    assert parse(shown["Tiny-text"]) == parse(config.read_text())


@pytest.mark.parametrize(
    ("cuda", "gpu", "provider", "pays"),
    [
        (False, False, None, True),
        (False, True, None, True),
        (True, True, None, False),
        (True, True, "cuda", False),
        (True, True, "cpu", True),
        (True, False, None, True),  # the environment of a machine with a GPU, on one without
    ],
)
def test_a_gpu_goes_before_bf16_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cuda: bool, gpu: bool, provider: str | None, pays: bool
) -> None:
    monkeypatch.delenv("PE_ONNXRUNTIME_PROVIDER", raising=False)
    if provider:
        monkeypatch.setenv("PE_ONNXRUNTIME_PROVIDER", provider)
    if gpu:
        (tmp_path / "dev").mkdir()
        (tmp_path / "dev/nvidiactl").touch()
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("vendor_id\t: GenuineIntel\nflags\t\t: amx_bf16\n")
    assert engine_choice.bf16_is_faster(cuda, cpuinfo, tmp_path) is pays
    cpuinfo.write_text("vendor_id\t: GenuineIntel\nflags\t\t: avx2\n")
    assert not engine_choice.bf16_is_faster(cuda, cpuinfo, tmp_path)


def model(precision: str = "fp32", backend: str = "onnxruntime", size: int = 400 * 2**20) -> Model:
    config = parse(f'parameters {{ key: "precision" value {{ string_value: "{precision}" }} }}')
    engine = find_engine(backend)
    assert isinstance(engine, Engine)
    files = (("1/model.onnx", 2**30, 0), ("2/model.onnx", size, 0))
    return Model("V-vision", Path("/m"), engine, config, (1, 2), files)


@pytest.mark.parametrize(
    ("option", "bf16", "openvino", "of", "substitution"),
    [
        ("auto", True, True, model(), "openvino-bf16"),
        ("auto", False, True, model(), None),
        ("auto", True, False, model(), None),
        ("auto", True, True, model("fp16"), None),
        ("auto", True, True, model(size=10 * 2**20), None),
        ("auto", True, True, model(backend="openvino"), None),
        ("onnxruntime", True, True, model(), None),
        ("openvino", False, True, model("fp16"), "openvino"),
        ("openvino-bf16", False, True, model(size=1), "openvino-bf16"),
        ("openvino-bf16", False, True, model(backend="python"), None),
    ],
)
def test_the_faster_engine_is_chosen_where_it_is_one(
    option: str, bf16: bool, openvino: bool, of: Model, substitution: str | None
) -> None:
    choice = EngineChoice(option, bf16, OPENVINO_INSTALLED if openvino else frozenset({"onnxruntime"}))
    found = choice.substitution_for(of)
    assert (found.option if found else None) == substitution
    assert choice.engine_for(of) is (found.engine if found else of.engine)


def test_what_fails_by_the_faster_engine_runs_by_its_own_unless_a_person_insisted() -> None:
    ours, theirs = (
        EngineChoice("auto", bf16=True, installed=OPENVINO_INSTALLED),
        EngineChoice("openvino-bf16", bf16=True, installed=OPENVINO_INSTALLED),
    )
    assert ours.fall_back([model("fp16"), model(size=1), model(backend="openvino")]) == set()  # these run by their own
    assert ours.fall_back([model()]) == {"V-vision"}
    assert ours.substitution_for(model()) is None
    assert ours.fall_back([model()]) == set()  # it is something else, then
    assert theirs.fall_back([model()]) == set()
    assert theirs.substitution_for(model()) is OPENVINO_BF16
    assert EngineChoice("auto", bf16=False, installed=OPENVINO_INSTALLED).fall_back([model()]) == set()


def with_spoilt_samples(directory: Path) -> Path:
    """Copy the demo, whose text tower then fails every proof."""
    path = shutil.copytree(ROOT / "model_repository", directory / "repository")
    samples = path / "PE-Demo-T8-64-text/1/parity.npz"
    with np.load(samples) as kept:
        spoilt = dict(kept) | {"expected": -kept["expected"]}
    np.savez(samples, **spoilt)
    return path


@pytest.mark.triton
def test_a_tower_that_is_not_the_same_in_bf16_is_served_by_its_own_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_choice, "_MIN_BYTES", 0)
    path = with_spoilt_samples(tmp_path)
    (tmp_path / "run").mkdir()
    real = find(candidate_environments(tmp_path))
    choice = EngineChoice("auto", bf16=True, installed=OPENVINO_INSTALLED)
    with Signals() as signals:
        models, listening = model_scan.servable_models(path), on_ports((0, 0, 0))
        triton = TritonProcess(real, models, tmp_path / "run", verbose=False, endpoints=listening, choice=choice)
        try:
            triton.wait_until_ready(signals)
            told = {
                tower: httpx2.get(f"http://{listening.http}/v2/models/PE-Demo-T8-64-{tower}/config").json()
                for tower in ("vision", "text")
            }
        finally:
            triton.stop(signals)
    assert set(triton.replaced) == {"PE-Demo-T8-64-text"}
    assert "openvino gives other embeddings than the exporter" in triton.replaced["PE-Demo-T8-64-text"]
    engines = {tower: config["parameters"]["engine"]["string_value"] for tower, config in told.items()}
    assert engines == {"vision": "openvino", "text": "onnx"}


@pytest.mark.triton
def test_a_tower_that_is_added_and_is_not_the_same_in_bf16_is_served_by_its_own_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is added while the real Triton serves the vision tower."""
    monkeypatch.setattr(engine_choice, "_MIN_BYTES", 0)
    path = with_spoilt_samples(tmp_path)
    (tmp_path / "run").mkdir()
    real = find(candidate_environments(tmp_path))
    choice = EngineChoice("auto", bf16=True, installed=OPENVINO_INSTALLED)
    with Signals() as signals:
        models, listening = model_scan.servable_models(path)[1:], on_ports((0, 0, 0))
        assert [served.name for served in models] == ["PE-Demo-T8-64-vision"]
        triton = TritonProcess(real, models, tmp_path / "run", verbose=False, endpoints=listening, choice=choice)
        try:
            triton.wait_until_ready(signals)
            reconciler = Reconciler(path, real, triton.layout, choice, models, triton.failure_reason)
            told: list[Event] = []
            end = time.monotonic() + 120
            while not any(isinstance(event, ModelLoaded | ModelRefused) for event in told):
                assert time.monotonic() < end, triton.tail()
                told += reconciler.step(triton.index() or [])
                signals.wait(0.2)
        finally:
            triton.stop(signals)
    replaced, loaded = told
    assert isinstance(replaced, EngineReplaced)
    assert "openvino gives other embeddings than the exporter" in replaced.reason
    assert loaded == ModelLoaded("PE-Demo-T8-64-text", 1)


@pytest.mark.triton
def test_the_demo_by_openvino_answers_as_by_onnxruntime(tmp_path: Path) -> None:
    body = {"subject": base64_image(flat((200, 30, 30), (64, 64))), "prompt": ["a red circle", "a blue square"]}
    found = []
    for name, options in (("own", []), ("other", ["--engine", "openvino"])):
        (tmp_path / name).mkdir()
        stack = PeServe(tmp_path / name, "--port", "0", *options)
        try:
            with httpx2.Client(base_url=stack.wait_until_ready(), timeout=60) as client:
                found.append(client.post("/perception_encoder/compare", json=body).json()["similarity"])
                told = client.get("/info").json()["models"]["PE-Demo-T8-64"]
            assert stack.stop() == 0
        finally:
            stack.kill()
    assert (told["engine"], told["precision"], told["parity_min_cosine"]) == ("openvino", "fp32", "0.99999")
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
