"""Each form against torch's own attention, and the rewritten weights against timm's modules."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export import attention, onnx_graph
from export.checkpoint import build_tower
from export.runtimes import onnxruntime_session
from export.variants import find_variant

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
    torch.testing.assert_close(attention.elementary(q, k, v, HEADS, causal), by_torch(q, k, v, causal))


class Alone(nn.Module):
    """Attention as a whole graph: embedding = attention of the one input with itself."""

    def __init__(self, form: attention.Attend, causal: bool) -> None:
        super().__init__()
        self.form, self.causal = form, causal

    def forward(self, x: Tensor) -> Tensor:
        return self.form(x, x * 0.5, x + 1, HEADS, self.causal)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("form", ["fused", "elementary"])
def test_both_forms_are_attention_in_onnxruntime(tmp_path: Path, form: Any, causal: bool) -> None:
    x = torch.randn(3, LENGTH, WIDTH)
    graph = onnx_graph.export_graph(Alone(attention.FORMS[form], causal), "x", x, tmp_path / "model.onnx")
    with onnxruntime_session(graph.path) as embed:
        np.testing.assert_allclose(embed(x.numpy()), by_torch(x, x * 0.5, x + 1, causal).numpy(), atol=1e-5)


@pytest.mark.parametrize("name", ["PE-Demo-T8-64", "PE-Core-T16-384"])
def test_rotary_attention_is_timms(name: str) -> None:
    tower: Any = build_tower(find_variant(name), "vision")
    trunk = tower.trunk
    embed = trunk.rope.get_embed()
    x = torch.randn(2, trunk.num_prefix_tokens + len(embed), trunk.embed_dim)
    expected = trunk.blocks[0].attn(x, rope=embed)
    table = attention.rotary_table(embed, trunk.num_prefix_tokens)
    rewritten = attention.vision_attention(trunk.blocks[0].attn, table, attention.elementary)
    torch.testing.assert_close(rewritten(x), expected, atol=1e-5, rtol=1e-5)


def test_causal_attention_is_open_clips() -> None:
    text: Any = build_tower(find_variant("PE-Demo-T8-64"), "text")
    x = torch.randn(2, text.context_length, text.width)
    block = text.transformer.resblocks[0]
    nn.init.normal_(block.attn.in_proj_bias)
    expected = block.attn(x, x, x, need_weights=False, attn_mask=text.attn_mask)[0]
    rewritten = attention.text_attention(block.attn, attention.elementary)
    torch.testing.assert_close(rewritten(x), expected, atol=1e-5, rtol=1e-5)


def test_pool_is_timms() -> None:
    tower: Any = build_tower(find_variant("PE-Demo-T8-64"), "vision")
    pool = tower.trunk.attn_pool
    nn.init.normal_(pool.q.bias)
    x = torch.randn(3, LENGTH, tower.trunk.embed_dim)
    expected = pool(x)
    rewritten = attention.AttentionPool(pool, attention.elementary, torch.float32)
    torch.testing.assert_close(rewritten(x), expected, atol=1e-5, rtol=1e-5)
