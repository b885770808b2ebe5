"""Export and serve a model for OpenVINO, and compare it with the same weights in onnxruntime.

The weights are random. The demo's text tower is too small for BF16, so that its export is refused. With random weights
the parity limit of full-size variants holds.
"""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from export.demo.pictures import COMBINATIONS, draw, random_scene
from export.repository import config_pbtxt
from tests.pictures import base64_image, encoded
from tests.running import PeServe

pytestmark = pytest.mark.triton

ROOT = Path(__file__).parent.parent.parent
EXPORT = ROOT / ".venv-export/bin"
VARIANT = "PE-Demo-T8-64"


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Export for OpenVINO, and copy the result for onnxruntime, which reads the same FP32 graph."""
    directory = tmp_path_factory.mktemp("openvino")
    checkpoint = directory / "random.safetensors"
    found = {engine: directory / engine for engine in ("onnx", "openvino")}
    # A CPU without BF16 runs the model in FP32, so that it cannot verify BF16. A CPU with BF16 verifies it anyway.
    options = ["--engine", "openvino", "--repository", found["openvino"], "--unverified"]
    commands: list[list[Any]] = [
        [EXPORT / "python", "-m", "export.weights.random_checkpoint", VARIANT, checkpoint],
        [EXPORT / "pe-export", VARIANT, "--checkpoint", checkpoint, *options],
    ]
    for command in commands:
        subprocess.run(list(map(str, command)), cwd=ROOT, check=True, timeout=300)
    shutil.copytree(found["openvino"], found["onnx"])
    for path in found["onnx"].glob("*/config.pbtxt"):
        config = config_pbtxt.parse(path.read_bytes())
        assert (config.backend, config.default_model_filename) == ("openvino", "model.onnx")
        config.backend = "onnxruntime"
        config.parameters["engine"].string_value = "onnx"
        path.write_text(config_pbtxt.to_text(config), encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def clients(
    repositories: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, httpx2.Client]]:
    stacks = {
        engine: PeServe(
            tmp_path_factory.mktemp(engine), "--port", "0", "--repository", repository, "--engine", "onnxruntime"
        )
        for engine, repository in repositories.items()
    }
    try:
        with ExitStack() as opened:
            yield {
                engine: opened.enter_context(httpx2.Client(base_url=stack.wait_until_ready(), timeout=60))
                for engine, stack in stacks.items()
            }
        for stack in stacks.values():
            assert stack.stop() == 0, stack.output
            assert "Traceback" not in stack.output, stack.output
    finally:
        for stack in stacks.values():
            stack.kill()


def test_info_states_engine_and_precision(clients: dict[str, httpx2.Client]) -> None:
    info = clients["openvino"].get("/info").json()["models"][VARIANT]
    assert (info["engine"], info["precision"]) == ("openvino", "bf16")


@pytest.mark.parametrize("what", ["image", "text"])
def test_both_engines_embed_alike(clients: dict[str, httpx2.Client], what: str) -> None:
    rng = np.random.default_rng(5)
    items: list[Any] = (
        [base64_image(encoded(draw(rng, random_scene(rng, COMBINATIONS)))) for _ in range(12)]
        if what == "image"
        else ["a red circle", "two small blue squares on a gray background", "", "猫", "x" * 1000]
    )

    def embed(client: httpx2.Client, item: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
        response = client.post(f"/perception_encoder/embed_{what}", json={what: item})
        assert response.status_code == 200, response.text
        return np.array(response.json()["embeddings"])

    batched = {engine: embed(client, items) for engine, client in clients.items()}
    assert (batched["onnx"] * batched["openvino"]).sum(axis=1).min() >= 0.999
    assert np.linalg.matrix_rank(batched["openvino"], tol=1e-2) > 1
    single = np.concatenate([embed(clients["openvino"], item) for item in items])
    assert (single * batched["openvino"]).sum(axis=1).min() >= 0.999
