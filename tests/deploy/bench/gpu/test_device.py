"""What the experiments share, and onnxruntime's runs, on the CPU with the demo."""

from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import onnx  # type: ignore[import-not-found,unused-ignore]
import onnxruntime
import pytest
import torch  # type: ignore[import-not-found,unused-ignore]

from deploy.bench.gpu import candidates, cuda_forms, device, torch_tower
from deploy.bench.gpu.candidates import CANDIDATES, GRAPHS, Candidate
from deploy.bench.gpu.setting import Setting
from export import parity
from export.errors import TargetError
from export.graph import onnx_graph
from export.graph.typed_towers import typed_tower
from export.variants import find_variant

pytestmark = [pytest.mark.export, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

DEMO = find_variant("PE-Demo-T8-64")
GRAPH = Path(__file__).parents[4] / "model_repository/PE-Demo-T8-64-vision/1/model.onnx"


def setting(folder: Path, rounds: int = 2) -> Setting:
    return Setting(DEMO.name, "cpu", folder, 2, rounds, 0.0, (), 1)


def test_a_rate_counts_all_but_the_first_run() -> None:
    calls: list[None] = []
    assert device.rate(lambda: calls.append(None), 4, 0.0) > 0
    assert len(calls) == 2


def test_every_process_has_the_same_weights_and_images() -> None:
    one, other = (device.random_tower(DEMO).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(*(device.random_images(DEMO, 3, "cpu") for _ in range(2)))


def test_runs_alternate_beside_the_limit(tmp_path: Path) -> None:
    order: list[str] = []
    reports: list[dict[str, object]] = []
    runs = {name: (partial(order.append, name), 2) for name in "ab"}
    device.alternate(runs, setting(tmp_path), "bf16", reports.append)
    assert order == ["a", "a", "b", "b", "b", "b", "a", "a"]  # each warms up once
    assert [report["rounds"] for report in reports] == [1, 2]
    assert set(reports[1]) == {"rounds", "matmul_tflops", "images_per_second", "of_the_limit"}


def test_a_profile_names_kernels() -> None:
    a = torch.randn(64, 64)
    found = device.kernel_ms(lambda: torch.mm(a, a), "cpu")
    assert found["aten::mm"] > 0
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_torch_in_half_precision_embeds_the_same() -> None:
    images = device.random_images(DEMO, 2, "cpu")
    expected = device.expected_embeddings(DEMO, images, "cpu")
    for half in device.DTYPES:
        run = torch_tower.TorchRun(device.torch_embed(device.random_tower(DEMO), half, "cpu"), images, "cpu")
        run()
        assert device.cosine_loss(expected, run.embeddings) < 0.01


def test_onnxruntime_embeds_tensors_in_device_memory() -> None:
    session = cuda_forms.session(GRAPH, Candidate("exported"), 3, "cpu")
    images = device.random_images(DEMO, 3, "cpu")
    run = cuda_forms.OnnxRuntimeRun(session, images, DEMO.embed_dim, "cpu")
    run()
    first = run.embeddings.clone()
    expected = session.run(None, {"image": images.numpy()})[0]
    np.testing.assert_allclose(first.numpy(), expected, atol=1e-6)
    images.copy_(images.flip(0))  # The session reads the given tensor and not a copy.
    run()
    torch.testing.assert_close(run.embeddings, first.flip(0))
    assert parity.compare(expected, first.numpy()).min_cosine > 0.99999


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.parametrize("fixed", [False, True])
def test_a_fixed_batch_leaves_no_shape_to_compute(fixed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The CUDA provider records a CUDA graph only if no shapes are computed on the CPU and copied."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    monkeypatch.setattr(onnxruntime, "SessionOptions", lambda: options)
    cuda_forms.session(GRAPH, Candidate("exported", fixed_batch=fixed), 3, "cpu")
    left = operators(tmp_path / "optimized.onnx")
    assert left["MultiHeadAttention"] == 5
    assert left["Shape"] == (0 if fixed else 1)
    assert left["Gemm"] == 1  # of the head. The products of the blocks stay MatMul.
    assert left["BiasGelu"] == 5  # onnxruntime fuses them itself.


@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph_names_its_operators(name: str, tmp_path: Path) -> None:
    """The export of every queued graph. What each computes is in tests/export/graph/test_fused_choices.py."""
    path = tmp_path / "model.onnx"
    tower = typed_tower(device.random_tower(DEMO), "fp16", GRAPHS[name])
    onnx_graph.export_graph(tower, "image", device.random_images(DEMO, 2, "cpu"), path)
    found = operators(path)
    assert found["BiasGelu"] == (4 if "BiasGelu" in name else 0)
    assert found["RotaryEmbedding"] == (4 if "packed" in name else 8)
    assert found["MultiHeadAttention"] == 5


def test_options_of_the_provider() -> None:
    assert set(candidates.chosen(())) == set(CANDIDATES)
    for name, candidate in CANDIDATES.items():
        strict = "enable_skip_layer_norm_strict_mode" in candidate.provider_options
        assert strict == ("FP16 stream" in name)
        assert ("enable_cuda_graph" in candidate.provider_options) == ("CUDA graph" in name)
        assert candidate.fixed_batch or not candidate.cuda_graph
    with pytest.raises(KeyError, match="unknown"):
        candidates.chosen(("unknown",))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_reports_a_missing_gpu(tmp_path: Path) -> None:
    on_cuda = Setting(DEMO.name, "cuda", tmp_path, 2, 1, 0.0, (), 1)
    with pytest.raises(TargetError, match="no NVIDIA GPU that torch can use"):
        device.facts(on_cuda)
    with pytest.raises(TargetError, match="this onnxruntime has no CUDAExecutionProvider: install onnxruntime-gpu"):
        cuda_forms.session(GRAPH, Candidate("exported"), 2, "cuda")
