"""Compare each form's operators with torch's own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export.engines.onnx import onnxruntime_session
from export.engines.openvino import openvino_model
from export.graph import onnx_graph
from export.graph.forms import FORMS, Form, causal_mask
from export.graph.spec import GraphForm

pytestmark = [pytest.mark.export, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

HEADS, WIDTH, LENGTH = 4, 32, 7


@pytest.fixture(autouse=True)
def deterministic() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.inference_mode():
        yield


def by_torch(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    q, k, v = (x.view(*x.shape[:2], HEADS, -1).transpose(1, 2) for x in (q, k, v))
    attended = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
    return attended.transpose(1, 2).flatten(2)


@pytest.mark.parametrize("causal", [False, True])
def test_elementary_form_is_attention(causal: bool) -> None:
    q, k, v = torch.randn(3, 2, LENGTH, WIDTH)
    attended = FORMS["elementary"].attend(q, k, v, HEADS, causal_mask(LENGTH) if causal else None)
    torch.testing.assert_close(attended, by_torch(q, k, v, causal))


@pytest.mark.parametrize("causal", [False, True])
def test_packed_form_is_attention(causal: bool) -> None:
    q, k, v = torch.randn(3, 2, LENGTH, WIDTH)
    packed = torch.stack([x.view(2, LENGTH, HEADS, -1) for x in (q, k, v)], dim=3).flatten(2)
    attended = FORMS["packed"].attend_packed(packed, HEADS, causal)
    torch.testing.assert_close(attended, by_torch(q, k, v, causal))


def test_packed_form_rotates_query_and_key_and_not_the_value() -> None:
    q, k, v = torch.randn(3, 2, LENGTH, WIDTH)
    angles = torch.rand(LENGTH, WIDTH // HEADS // 2)
    alone, together = (
        FORMS[form].rotary_table(angles.cos(), angles.sin(), HEADS, torch.float32) for form in ("elementary", "packed")
    )
    packed = torch.stack([x.view(2, LENGTH, HEADS, -1) for x in (q, k, v)], dim=3).flatten(2)
    rotated = FORMS["packed"].rotate(packed, together).view(2, LENGTH, HEADS, 3, -1).unbind(3)
    expected = (FORMS["elementary"].rotate(q, alone), FORMS["elementary"].rotate(k, alone), v)
    for actual, wanted in zip(rotated, expected, strict=True):
        torch.testing.assert_close(actual.flatten(2), wanted)


class Alone(nn.Module):
    """A graph of attention only. The input is query, key and value."""

    def __init__(self, form: Form, causal: bool) -> None:
        super().__init__()
        self.form, self.mask = form, causal_mask(LENGTH) if causal else None

    def forward(self, x: Tensor) -> Tensor:
        return self.form.attend(x, x * 0.5, x + 1, HEADS, self.mask)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_attention_in_onnxruntime(tmp_path: Path, form: GraphForm, causal: bool) -> None:
    x = torch.randn(3, LENGTH, WIDTH)
    graph = onnx_graph.export_graph(Alone(FORMS[form], causal), "x", x, tmp_path / "model.onnx")
    with onnxruntime_session(graph.path) as embed:
        np.testing.assert_allclose(embed(x.numpy()), by_torch(x, x * 0.5, x + 1, causal).numpy(), atol=1e-5)


class Sum(nn.Module):
    """A graph of `add_norm` only. The output is the sum and its norm, [N, S, 2 W]."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.form, self.linear, self.norm = form, nn.Linear(3, WIDTH), nn.LayerNorm(WIDTH, eps=0.1)
        for parameter in self.parameters():
            nn.init.normal_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(self.form.add_norm(x, x[..., :3], self.linear, self.norm), dim=-1)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_adds_and_then_norm(tmp_path: Path, form: GraphForm) -> None:
    x, module = torch.randn(3, LENGTH, WIDTH), Sum(FORMS[form])
    total = x + module.linear(x[..., :3])
    expected = torch.cat((total, module.norm(total)), dim=-1)
    graph = onnx_graph.export_graph(module, "x", x, tmp_path / "model.onnx")
    for runtime in (onnxruntime_session(graph.path), openvino_model(graph.path, "fp32")):
        with runtime as embed:
            np.testing.assert_allclose(embed(x.numpy()), expected.numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("heads", "of", "together"), [(16, 64, 16), (12, 64, 12), (16, 96, 8), (3, 512, 1), (2, 2048, 1), (5, 64, 5)]
)
def test_as_many_heads_are_turned_together_as_a_block_of_threads_takes(heads: int, of: int, together: int) -> None:
    angles: Any = torch.rand(2, LENGTH, of // 2)
    table = FORMS["fused"].rotary_table(angles[0], angles[1], heads, torch.float16)
    assert table.shape == (2, LENGTH, together * of // 2)
    assert table.dtype == torch.float16
