"""ONNX models by OpenVINO: what Triton is told of them, and that they answer the same."""

import re
from collections.abc import Callable
from pathlib import Path

import httpx2
import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from deploy.embedded import engine, repository
from deploy.embedded.installation import Installation
from deploy.embedded.layout import Layout
from tests.pictures import base64_image, flat
from tests.running import PeServe

ROOT = Path(__file__).parents[3]
VISION = ROOT / "model_repository/PE-Demo-T8-64-vision"


@pytest.mark.parametrize(
    ("choice", "precision", "least", "most"),
    [("openvino", "fp32", 0.99999, 0.00447), ("openvino-bf16", "bf16", 0.999, 0.0447)],
)
def test_triton_is_told_what_then_holds(choice: str, precision: str, least: float, most: float) -> None:
    before = (VISION / "config.pbtxt").read_bytes()
    config = text_format.Parse(engine.configured(before, choice).decode(), ModelConfig())
    told = {key: value.string_value for key, value in config.parameters.items()}
    assert (told["run_by"], told["engine"], told["precision"]) == ("openvino", "openvino", precision)
    assert float(told["parity_min_cosine"]) == least
    assert float(told["parity_max_abs_error"]) == most
    kept = text_format.Parse(before.decode(), ModelConfig())
    for key, value in kept.parameters.items():
        if key not in ("engine", "precision", "parity_min_cosine", "parity_max_abs_error"):
            assert told[key] == value.string_value
    for parsed in (config, kept):
        parsed.ClearField("parameters")
    assert config == kept


def test_only_onnx_models_are_changed(
    installation: Installation, make_repository: Callable[..., Path], tmp_path: Path
) -> None:
    path = make_repository("Tiny-vision", "Tiny-text")
    config = path / "Tiny-text/config.pbtxt"
    config.write_text(re.sub(r'"onnxruntime"', '"openvino"', config.read_text()))
    (path / "Tiny-text/1/model.onnx").rename(path / "Tiny-text/1/model.xml")
    (tmp_path / "run").mkdir()
    layout = Layout(tmp_path / "run", installation, "openvino-bf16")
    for model in repository.models(path):
        layout.show(model)
    shown = {name: (layout.models / name / "config.pbtxt").read_text() for name in ("Tiny-vision", "Tiny-text")}
    assert "HINT_BF16" in shown["Tiny-vision"]
    assert shown["Tiny-text"] == config.read_text()


@pytest.mark.parametrize(("flags", "amx"), [("fpu avx2 amx_bf16 amx_int8", True), ("fpu avx512_bf16", False)])
def test_amx_is_found(tmp_path: Path, flags: str, amx: bool) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t: amx_bf16x\n")
    assert engine.has_amx(tmp_path / "cpuinfo") is amx


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
