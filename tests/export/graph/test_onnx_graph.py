from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from export.engines.onnx import onnxruntime_session
from export.errors import GraphError
from export.graph import onnx_graph
from export.parity import torch_reference

pytestmark = [pytest.mark.export, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


class Tiny(nn.Module):
    """A module like a tower. Torch traces its `nn.Embedding` as "embedding", which is also the output's name."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(16, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        return nn.functional.normalize(self.table(tokens).sum(dim=1), dim=-1)


class Untraceable(nn.Module):
    def forward(self, tokens: Tensor) -> Tensor:
        return tokens if tokens.float().mean().item() > 0 else -tokens


TOKENS = np.arange(12, dtype=np.int32).reshape(3, 4)


def export(path: Path) -> tuple[Tiny, onnx_graph.OnnxGraph]:
    torch.manual_seed(0)
    tower = Tiny().eval()
    return tower, onnx_graph.export_graph(tower, "tokens", torch.from_numpy(TOKENS[:2]), path / "model.onnx")


def test_tensors_are_named_and_the_axes_of_batch_and_tokens_are_dynamic(tmp_path: Path) -> None:
    _, graph = export(tmp_path)
    loaded = onnx.load(graph.path).graph
    for value, name, shape in (
        (loaded.input[0], "tokens", ["batch", "tokens"]),
        (loaded.output[0], "embedding", ["batch", 4]),
    ):
        assert value.name == name
        assert [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim] == shape


def test_it_computes_what_torch_does_at_other_batch_sizes(tmp_path: Path) -> None:
    tower, graph = export(tmp_path)
    expected = torch_reference(tower)(TOKENS)
    with onnxruntime_session(graph.path) as embed:
        np.testing.assert_allclose(embed(TOKENS), expected, atol=1e-6)


def test_an_axis_of_pixels_is_fixed(tmp_path: Path) -> None:
    image = torch.ones((2, 3, 3, 3), dtype=torch.uint8)
    graph = onnx_graph.export_graph(nn.Flatten(), "image", image, tmp_path / "model.onnx")
    shape = onnx.load(graph.path).graph.input[0].type.tensor_type.shape
    assert [axis.dim_param or axis.dim_value for axis in shape.dim] == ["batch", 3, 3, 3]


def test_opset_is_the_chosen_one_and_nothing_tells_of_this_machine(tmp_path: Path) -> None:
    _, graph = export(tmp_path)
    model = onnx.load(graph.path)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", onnx_graph.OPSET)]
    for secret in (b"test_onnx_graph", b"site-packages", b"stack_trace"):
        assert secret not in graph.path.read_bytes()


def test_large_weights_lie_beside_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_graph, "_EXTERNAL_DATA_ABOVE_BYTES", 0)
    tower, graph = export(tmp_path)
    assert [file.name for file in graph.files] == ["model.onnx", "model.onnx.data"]
    assert graph.size == sum(file.stat().st_size for file in tmp_path.iterdir())
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for file in graph.files:  # The graph refers to its weights file by a relative path.
        file.rename(moved / file.name)
    expected = torch_reference(tower)(TOKENS)
    with onnxruntime_session(moved / "model.onnx") as embed:
        np.testing.assert_allclose(embed(TOKENS), expected, atol=1e-6)


def test_a_module_that_cannot_be_traced_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="torch could not export") as raised:
        onnx_graph.export_graph(Untraceable(), "tokens", torch.from_numpy(TOKENS[:2]), tmp_path / "model.onnx")
    assert "\n" not in str(raised.value)
