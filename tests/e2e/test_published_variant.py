"""`make serve VARIANT=...`: download, export, prove and serve one of Meta's variants, with interruptions.

The hub is a local server, and the weights are random, because Meta's cannot be downloaded in tests. T16-384 is the
smallest variant (69 million parameters): B16-224 takes four times as long and shows nothing else.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import numpy as np
import pytest

from gateway.encoder import Embeddings
from tests.export.weights.hub_server import COMMIT, Hub, serve
from tests.make_serve import CheckoutCopy, press_ctrl_c
from tests.pictures import PHOTOGRAPHS, base64_image
from tests.running import PeServe

pytestmark = pytest.mark.triton

ROOT = Path(__file__).parent.parent.parent
VARIANT, REPOSITORY, FILE = "PE-Core-T16-384", "timm/PE-Core-T-16-384", "open_clip_model.safetensors"
SECONDS = 1200


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    weights = tmp_path / "random.safetensors"
    python = ROOT / ".venv-export/bin/python"
    maker = [python, "-m", "export.weights.random_checkpoint", VARIANT, weights]
    subprocess.run(list(map(str, maker)), cwd=ROOT, check=True, timeout=SECONDS)
    content = weights.read_bytes()
    weights.unlink()
    with serve(Hub(REPOSITORY, FILE, content)) as served:
        yield served


def test_a_published_variant_is_downloaded_exported_proved_and_served(tmp_path: Path, hub: Hub) -> None:
    checkout = CheckoutCopy(tmp_path / "checkout")
    environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hub")}
    models = checkout.models / VARIANT

    # Ctrl-C in the download.
    hub.stall_after = 100_000_000
    with running(checkout.make_serve(f"VARIANT={VARIANT}", **environment)) as stack:
        assert hub.stalled.wait(SECONDS), stack.output
        assert press_ctrl_c(stack) != 0
        assert "make serve: interrupted. Run the same command again: it continues where it stopped." in stack.output
        stack.wait_until_gone(5)
    (partial,) = (tmp_path / "hub").rglob("*.partial")
    kept = partial.stat().st_size
    assert 50_000_000 < kept <= 100_000_000
    assert checkout.set_up() == ["serve", "export"]

    # SIGTERM in the export of the second tower.
    hub.requests.clear()
    with running(checkout.make_serve(f"VARIANT={VARIANT}", **environment)) as stack:
        stack.wait_for("^text     load", SECONDS)
        assert stack.stop() != 0
        stack.wait_until_gone(30)
        assert f"{FILE}, {len(hub.content) / 1e6:.1f} MB, resumed at {kept / 1e6:.1f} MB" in stack.output
        assert "pe-export: stopped; the repository holds no incomplete model" in stack.output
    assert f"GET /{REPOSITORY}/resolve/{COMMIT}/{FILE} bytes={kept}-" in hub.requests
    assert [entry.name for entry in models.iterdir()] == [f"{VARIANT}-vision"]

    # The rest of it, as FP32.
    with running(checkout.make_serve(f"VARIANT={VARIANT}", **environment, PE_ONNX_ENGINE="onnxruntime")) as stack:
        stack.wait_for("^Ready on", SECONDS)
        assert f"{VARIANT}-vision/1  up to date" in stack.output
        exact = photograph(stack, 0.99999)
        assert stack.stop() != 0
    assert sorted(entry.name for entry in models.iterdir()) == [f"{VARIANT}-text", f"{VARIANT}-vision"]

    # At once: without a network, the downloaded file and the environment with torch. The engine may choose BF16.
    checkout.forget_export()
    checkout.set_up()
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "nowhere")}
    with running(checkout.make_serve(f"VARIANT={VARIANT}", **nowhere)) as stack:
        stack.wait_until_ready()
        assert checkout.set_up() == ["serve"]
        said = f"make serve: {VARIANT} is in models/{VARIANT}: weights {REPOSITORY}@{COMMIT}/{FILE}; vision onnx fp32"
        assert said in stack.output
        assert "weights  " not in stack.output
        chosen = photograph(stack, 0.999)
    assert (exact * chosen).sum() >= 0.999


@contextmanager
def running(stack: PeServe) -> Iterator[PeServe]:
    """Kill what a block leaves running."""
    try:
        yield stack
    finally:
        stack.kill()


def photograph(stack: PeServe, least_cosine: float) -> Embeddings:
    """A photograph's embedding [D], from a server whose models say that they are proved to that cosine."""
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
    return np.array(row, np.float32)
