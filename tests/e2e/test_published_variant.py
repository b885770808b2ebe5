"""Export and serve one of Meta's variants by the commands that a user would type.

The weights are random, because Meta's cannot be downloaded in tests. T16-384 is the smallest variant (69 million
parameters): B16-224 takes four times as long and shows nothing else.
"""

import subprocess
from pathlib import Path

import httpx2
import numpy as np
import pytest

from gateway.encoder import Embeddings
from tests.pictures import PHOTOGRAPHS, base64_image
from tests.running import PeServe

pytestmark = pytest.mark.triton

ROOT = Path(__file__).parent.parent.parent
EXPORT = ROOT / ".venv-export/bin"
VARIANT = "PE-Core-T16-384"


def test_a_published_variant_is_exported_proved_and_served(tmp_path: Path) -> None:
    checkpoint, repository = tmp_path / "random.safetensors", tmp_path / "repository"
    for command in (
        [EXPORT / "python", "-m", "export.weights.random_checkpoint", VARIANT, checkpoint],
        [EXPORT / "pe-export", VARIANT, "--checkpoint", checkpoint, "--repository", repository],
    ):
        subprocess.run(list(map(str, command)), cwd=ROOT, check=True, timeout=1800)
    checkpoint.unlink()
    exact = served(tmp_path, repository, "onnxruntime", 0.99999)
    # What it chooses for the CPU at hand may be BF16.
    chosen = served(tmp_path, repository, "auto", 0.999)
    assert (exact * chosen).sum() >= 0.999


def served(folder: Path, repository: Path, engine: str, least_cosine: float) -> Embeddings:
    """A photograph's embedding [D], from a pe-serve whose models say that they are proved to that cosine."""
    stack = PeServe(folder, "--port", "0", "--repository", repository, "--engine", engine)
    try:
        with httpx2.Client(base_url=stack.wait_until_ready(), timeout=300) as client:
            model = client.get("/info").json()["models"][VARIANT]
            assert (model["image_size"], model["context_length"], model["embed_dim"]) == ([384, 384], 32, 512)
            for tower in ("vision", "text"):
                assert float({**model, **model[tower]}["parity_min_cosine"]) >= least_cosine
            subject = base64_image(PHOTOGRAPHS[0].read_bytes())
            answer = client.post("/perception_encoder/compare", json={"subject": subject, "prompt": ["a cat", "a dog"]})
            assert answer.status_code == 200, answer.text
            assert len(set(answer.json()["similarity"])) == 2
            (row,) = client.post("/perception_encoder/embed_image", json={"image": subject}).json()["embeddings"]
            assert np.linalg.norm(row) == pytest.approx(1, abs=1e-5)
        assert stack.stop() == 0
    finally:
        stack.kill()
    return np.array(row, np.float32)
