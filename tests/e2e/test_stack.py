"""What only the real Triton can show: that its answers reach the right client, whatever else is going on."""

import asyncio
import subprocess
import sys
from pathlib import Path

import httpx2
import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image
from tritonclient.grpc import model_config_pb2

from tests.pictures import PHOTOGRAPHS, base64_image, encoded

pytestmark = pytest.mark.triton

EMBED_IMAGE = "/perception_encoder/embed_image"
EMBED_TEXT = "/perception_encoder/embed_text"
ROOT = Path(__file__).parent.parent.parent


def picture(seed: int) -> bytes:
    """Noise that no other seed has."""
    return encoded(Image.fromarray(np.random.default_rng(seed).integers(0, 256, (48, 80, 3), np.uint8)))


def test_what_is_served(client: httpx2.Client) -> None:
    assert client.get("/readiness").json() == {"status": "ready"}
    model = client.get("/info").json()["models"]["PE-Demo-T8-64"]
    assert model["image_size"] == [64, 64]
    assert (model["context_length"], model["token_lengths"]) == (32, [8, 16, 24, 32])
    assert "not Meta's" in model["notice"]
    assert float(model["parity_min_cosine"]) >= 0.99999 or float(model["vision"]["parity_min_cosine"]) >= 0.99999


def test_embeddings_are_unit_vectors(client: httpx2.Client) -> None:
    images = client.post(EMBED_IMAGE, json={"image": [base64_image(p.read_bytes()) for p in PHOTOGRAPHS]})
    texts = client.post(EMBED_TEXT, json={"text": ["a cat", "", "   ", "猫", "x" * 100_000]})
    for answer in (images, texts):
        assert answer.status_code == 200
        np.testing.assert_allclose(np.linalg.norm(answer.json()["embeddings"], axis=1), 1, atol=1e-5)
    assert texts.headers["x-truncated"] == "4"


async def test_everybody_gets_their_own_answer(base_url: str) -> None:
    """Sixty-four requests at once, which Triton batches as it likes, against the same ones alone."""
    async with httpx2.AsyncClient(base_url=base_url, timeout=60) as client:

        async def embed(seed: int) -> list[float]:
            async with limit:
                answer = await client.post(EMBED_IMAGE, content=picture(seed), headers={"content-type": "image/png"})
            assert answer.status_code == 200, answer.text
            return answer.json()["embeddings"][0]  # type: ignore[no-any-return]

        limit = asyncio.Semaphore(1)
        alone = [await embed(seed) for seed in range(64)]
        limit = asyncio.Semaphore(32)
        together = await asyncio.gather(*map(embed, range(64)))
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.linalg.matrix_rank(np.array(alone), tol=1e-6) > 1


def test_a_long_list_equals_its_items(client: httpx2.Client) -> None:
    images = [base64_image(picture(seed)) for seed in range(40)]
    rows = client.post(EMBED_IMAGE, json={"image": images}).json()["embeddings"]
    for index in (0, 7, 8, 39):
        (row,) = client.post(EMBED_IMAGE, json={"image": images[index]}).json()["embeddings"]
        np.testing.assert_allclose(rows[index], row, atol=1e-5)


def test_the_committed_configuration_is_the_contract() -> None:
    """Whoever talks to Triton without the gateway relies on these names and shapes."""
    for tower, name, dims in (("vision", "image", [64, 64, 3]), ("text", "tokens", [-1])):
        text = (ROOT / f"model_repository/PE-Demo-T8-64-{tower}/config.pbtxt").read_text()
        config = text_format.Parse(text, model_config_pb2.ModelConfig())
        assert [(tensor.name, list(tensor.dims)) for tensor in config.input] == [(name, dims)]
        assert [(tensor.name, list(tensor.dims)) for tensor in config.output] == [("embedding", [64])]


def test_the_demo_tells_what_it_was_not_shown(base_url: str) -> None:
    """The README's command with a fifth of its pictures reaches the floors that the command sets itself."""
    command = [sys.executable, "-m", "export.demo.evaluate", "--url", base_url, "--pictures", "405"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "held" in run.stdout.lower()
