"""Models for OpenVINO by the commands a user would type, beside the same weights through onnxruntime.

The weights are random: the demo's own text tower is too small for BF16 (its export is refused), and at a random one's
scale of numbers the parity that is demanded of full-size variants holds.
"""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from export.demo.pictures import COMBINATIONS, draw, random_scene
from tests.pictures import base64_image, encoded
from tests.running import PeServe

pytestmark = pytest.mark.triton

ROOT = Path(__file__).parent.parent.parent
EXPORT = ROOT / ".venv-export/bin"
VARIANT = "PE-Demo-T8-64"


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One an engine."""
    directory = tmp_path_factory.mktemp("openvino")
    checkpoint = directory / "random.safetensors"
    found = {engine: directory / engine for engine in ("onnx", "openvino")}
    commands: list[list[Any]] = [[EXPORT / "python", "-m", "export.weights.random_checkpoint", VARIANT, checkpoint]]
    for engine, repository in found.items():
        # Unverified: a CPU without BF16 proves nothing of it, and runs it in FP32. Where it has BF16, it is proven.
        options = ["--engine", engine, "--repository", repository, "--unverified"]
        commands.append([EXPORT / "pe-export", VARIANT, "--checkpoint", checkpoint, *options])
    for command in commands:
        subprocess.run(list(map(str, command)), cwd=ROOT, check=True, timeout=300)
    return found


@pytest.fixture(scope="module")
def clients(
    repositories: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, httpx2.Client]]:
    stacks = {
        engine: PeServe(tmp_path_factory.mktemp(engine), "--port", "0", "--repository", repository)
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


def test_engine_and_precision_are_told(clients: dict[str, httpx2.Client]) -> None:
    told = {engine: client.get("/info").json()["models"][VARIANT] for engine, client in clients.items()}
    assert (told["openvino"]["engine"], told["openvino"]["precision"]) == ("openvino", "bf16")
    assert (told["onnx"]["engine"], told["onnx"]["precision"]) == ("onnx", "fp32")


@pytest.mark.parametrize("what", ["image", "text"])
def test_both_engines_embed_alike(clients: dict[str, httpx2.Client], what: str) -> None:
    rng = np.random.default_rng(5)
    items: list[Any] = (
        [base64_image(encoded(draw(rng, random_scene(rng, COMBINATIONS)))) for _ in range(12)]
        if what == "image"
        else ["a red circle", "two small blue squares on a gray background", "", "猫", "x" * 1000]
    )

    def embed(client: httpx2.Client, asked: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
        answer = client.post(f"/perception_encoder/embed_{what}", json={what: asked})
        assert answer.status_code == 200, answer.text
        return np.array(answer.json()["embeddings"])

    together = {engine: embed(client, items) for engine, client in clients.items()}
    assert (together["onnx"] * together["openvino"]).sum(axis=1).min() >= 0.999
    assert np.linalg.matrix_rank(together["openvino"], tol=1e-2) > 1
    alone = np.concatenate([embed(clients["openvino"], item) for item in items])
    assert (alone * together["openvino"]).sum(axis=1).min() >= 0.999
