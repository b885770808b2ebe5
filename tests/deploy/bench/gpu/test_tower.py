"""The GPU benchmark on the CPU, with the demo."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch  # type: ignore[import-not-found,unused-ignore]

from deploy.bench.gpu import tower as gpu
from deploy.bench.harness import flops
from export import cli, parity
from export.errors import TargetError
from export.graph.towers import VisionTower
from export.parity import compare
from export.variants import find_variant
from export.weights.checkpoint import load_tower, open_checkpoint

pytestmark = [
    pytest.mark.export,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # torch's own, in its exporter
]

VARIANT = find_variant("PE-Demo-T8-64")
GRAPH = Path(__file__).parents[4] / "model_repository/PE-Demo-T8-64-vision/1/model.onnx"


def tower() -> VisionTower:
    assert VARIANT.bundled_checkpoint is not None
    loaded = load_tower(VARIANT, "vision", open_checkpoint(VARIANT.bundled_checkpoint))
    assert isinstance(loaded, VisionTower)
    return loaded


def images(count: int) -> Any:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 64, 64, 3), dtype=torch.uint8, generator=generator)


def test_onnxruntime_embeds_tensors_in_device_memory() -> None:
    batch = images(3)
    run = gpu.OnnxRuntimeRun(gpu.onnxruntime_session(GRAPH, "cpu"), batch, VARIANT.embed_dim, "cpu")
    expected = parity.torch_reference(tower())(batch.numpy())
    run()
    assert compare(expected, run.embeddings.numpy()).min_cosine > 0.99999
    batch.copy_(batch.flip(0))  # The session reads the given tensor and not a copy.
    run()
    assert compare(expected[::-1].copy(), run.embeddings.numpy()).min_cosine > 0.99999


def test_torch_in_half_precision_embeds_the_same() -> None:
    batch = images(2)
    expected = parity.torch_reference(tower())(batch.numpy())
    for half in ("fp16", "bf16"):
        embed = gpu.torch_embed(tower(), half, "cpu")
        with torch.inference_mode():
            assert compare(expected, embed(batch).numpy()).min_cosine > 0.99


def test_a_rate_counts_all_but_the_first_run() -> None:
    calls: list[None] = []
    assert gpu.rate(lambda: calls.append(None), 4, 0.0) > 0
    assert len(calls) == 2


def test_matrix_products_are_of_the_size_that_is_counted() -> None:
    assert gpu.matmul_tflops("bf16", "cpu", 0.0) > 0
    assert list(gpu.matmul_runs("fp16", "cpu")) == [256]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_reports_a_missing_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["PE-Demo-T8-64", "--repository", "none"]) == 1
    assert capsys.readouterr().err.startswith("gpu: no NVIDIA GPU that torch can use; ")
    with pytest.raises(TargetError, match="this onnxruntime has no CUDAExecutionProvider: install onnxruntime-gpu"):
        gpu.onnxruntime_session(GRAPH, "cuda")


def test_refuses_another_precision_and_a_missing_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repository = GRAPH.parents[2]
    assert gpu.main(["PE-Demo-T8-64", "--device", "cpu", "--repository", str(repository)]) == 1
    assert "PE-Demo-T8-64-vision/1 is onnx in fp32, not onnx in fp16" in capsys.readouterr().err
    assert gpu.main(["PE-Demo-T8-64", "--device", "cpu", "--repository", str(tmp_path)]) == 1
    assert "has no parity.json" in capsys.readouterr().err


def test_a_run_measures_what_a_repository_serves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repository, output = str(tmp_path / "models"), tmp_path / "gpu.json"
    order = ["PE-Demo-T8-64", "--repository", repository, "--towers", "vision", "--precision", "fp16"]
    assert cli.main(order) == 0
    capsys.readouterr()
    options = ["--device", "cpu", "--rounds", "2", "--seconds", "0", "--batch-sizes", "1,2", "--no-compile"]
    assert gpu.main(["PE-Demo-T8-64", "--repository", repository, "--output", str(output), *options]) == 0
    _, certificate = gpu.published(VARIANT, "fp16", tmp_path / "models")
    results = json.loads(output.read_text())
    assert results["weights"] == certificate.checkpoint_source
    assert results["parity"]["min_cosine"] > 0.999
    assert results["gflop_per_image"] == flops.vision_gflop("PE-Demo-T8-64", 64)
    expected = [
        f"{what}, batch {n}" for what in ("onnxruntime fp16", "torch eager fp16", "torch eager bf16") for n in (1, 2)
    ]
    assert list(results["images_per_second"]) == expected
    assert all(0 < found["low"] <= found["median"] <= found["high"] for found in results["images_per_second"].values())
    assert all(limit["median"] > 0 for limit in results["matmul_tflops"].values())
    assert results["precision"] in results["matmul_tflops"]
    table = capsys.readouterr().out.splitlines()
    assert [line.split(" |")[0] for line in table[5:]] == [f"| {key}" for key in expected]
    assert np.isfinite([float(line.split("|")[3]) for line in table[5:]]).all()
