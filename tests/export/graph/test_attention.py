"""Compare rewritten attention with timm's, open_clip's and torch's modules, in every form."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from export.engines.onnx import onnxruntime_session
from export.engines.openvino import openvino_model
from export.graph import attention, onnx_graph
from export.graph.forms import FORMS, causal_mask
from export.graph.spec import GraphForm
from export.variants import find_variant
from export.weights.checkpoint import build_tower

pytestmark = [pytest.mark.export, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

LENGTH = 7
FP32 = torch.float32


@pytest.fixture(autouse=True)
def deterministic() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.inference_mode():
        yield


class Alone(nn.Module):
    """A graph of attention and its output projection."""

    def __init__(self, rewritten: attention.SelfAttention, mask: Tensor | None) -> None:
        super().__init__()
        self.rewritten, self.mask = rewritten, mask

    def forward(self, x: Tensor) -> Tensor:
        attended: Tensor = self.rewritten.out(self.rewritten(x, self.mask))
        return attended


def results(
    rewritten: attention.SelfAttention, x: Tensor, form: GraphForm, folder: Path, mask: Tensor | None = None
) -> Iterator[Tensor]:
    """Run a module in torch, or in both runtimes if torch lacks its operators."""
    if form != "fused":
        yield Alone(rewritten, mask)(x)
        return
    graph = onnx_graph.export_graph(Alone(rewritten, mask), "x", x, folder / "model.onnx")
    for runtime in (onnxruntime_session(graph.path), openvino_model(graph.path, "fp32")):
        with runtime as embed:
            yield torch.from_numpy(embed(x.numpy()))


def amplify(module: nn.Module) -> None:
    """Make weights larger. With the small initial weights of a tower, attention is nearly uniform and hides errors."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=2 / parameter.shape[-1] ** 0.5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["PE-Demo-T8-64", "PE-Core-T16-384"])
def test_rotary_attention_is_timms(name: str, form: GraphForm, tmp_path: Path) -> None:
    tower: Any = build_tower(find_variant(name), "vision")
    trunk = tower.trunk
    embed, original = trunk.rope.get_embed(), trunk.blocks[0].attn
    amplify(original)
    x = torch.randn(2, trunk.num_prefix_tokens + len(embed), trunk.embed_dim)
    expected = original(x, rope=embed)
    assert not torch.allclose(
        expected, original(x, rope=embed.flip(0)), atol=0.1
    )  # The result depends on the positions.
    table = attention.rotary_table(embed, trunk.num_prefix_tokens, original.num_heads, FORMS[form], FP32)
    rewritten = attention.vision_attention(original, table, FORMS[form])
    for actual in results(rewritten, x, form, tmp_path):
        torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_causal_attention_is_open_clips(form: GraphForm, tmp_path: Path) -> None:
    text: Any = build_tower(find_variant("PE-Demo-T8-64"), "text")
    x = torch.randn(2, text.context_length, text.width)
    block = text.transformer.resblocks[0]
    amplify(block.attn)
    expected = block.attn(x, x, x, need_weights=False, attn_mask=text.attn_mask)[0]
    rewritten = attention.text_attention(block.attn, FORMS[form])
    for actual in results(rewritten, x, form, tmp_path, causal_mask(text.context_length)):
        torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


def test_pool_is_timms() -> None:
    tower: Any = build_tower(find_variant("PE-Demo-T8-64"), "vision")
    pool = tower.trunk.attn_pool
    nn.init.normal_(pool.q.bias)
    x = torch.randn(3, LENGTH, tower.trunk.embed_dim)
    expected = pool(x)
    rewritten = attention.AttentionPool(pool, FORMS["elementary"], FP32)
    torch.testing.assert_close(rewritten(x), expected, atol=1e-5, rtol=1e-5)
