"""Compare the choices of `Fused` that are queued for a GPU with torch, by onnxruntime's CPU provider.

The CPU provider has no MultiHeadAttention of packed inputs. For it, `unpacked` splits the packed tensor as
onnxruntime's documentation describes it, [N, S, heads, 3, d], and the provider runs the rest.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import Tensor, nn

from export import parity
from export.engines.onnx import onnxruntime_session
from export.errors import ParityError
from export.graph import attention, onnx_graph
from export.graph.forms import FORMS, Form, Fused
from export.graph.typed_towers import typed_tower
from export.parity import torch_reference
from export.repository.triton_config import INPUTS
from export.samples import samples
from export.variants import Tower, find_variant
from export.weights.checkpoint import build_tower, load_tower, open_checkpoint

pytestmark = [pytest.mark.export, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

DEMO = find_variant("PE-Demo-T8-64")
ALL = Fused(bias_gelu=True, half_stream=True, packed=True)
FP16 = torch.float16


@pytest.fixture(autouse=True)
def deterministic() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.inference_mode():
        yield


def unpacked(path: Path) -> Path:
    """Split the packed query, key and value before each MultiHeadAttention of one input."""
    model = onnx.load(path)
    shape = helper.make_tensor("unpacked_shape", onnx.TensorProto.INT64, [3], [0, 0, -1])
    model.graph.initializer.append(shape)
    nodes = []
    for node in model.graph.node:
        if node.op_type == "MultiHeadAttention" and len(node.input) == 1:
            names = [f"{node.output[0]}_{part}" for part in ("query", "key", "value")]
            parts = [f"{name}_part" for name in names]
            nodes.append(helper.make_node("Split", [node.input[0]], parts, axis=3, num_outputs=3))
            nodes += [
                helper.make_node("Reshape", [part, shape.name], [name]) for part, name in zip(parts, names, strict=True)
            ]
            node.input[:] = names
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    split = path.with_name("unpacked.onnx")
    onnx.save(model, split)
    return split


def exported(module: nn.Module, x: Tensor, folder: Path) -> Path:
    return onnx_graph.export_graph(module, "x", x, folder / "model.onnx").path


@pytest.mark.parametrize(
    ("tower", "form"),
    [
        ("vision", Fused(bias_gelu=True, half_stream=True)),
        ("vision", ALL),
        ("text", ALL),
    ],
)
def test_the_trained_demo_embeds_as_torch_in_fp32(tower: Tower, form: Fused, tmp_path: Path) -> None:
    assert DEMO.bundled_checkpoint is not None
    network = load_tower(DEMO, tower, open_checkpoint(DEMO.bundled_checkpoint))
    inputs = samples(DEMO, tower)[:16]
    expected = torch_reference(network)(inputs)
    typed = typed_tower(network, "fp16", form)
    path = tmp_path / "model.onnx"
    onnx_graph.export_graph(typed, INPUTS[tower][0], torch.from_numpy(inputs[:2]), path)
    with onnxruntime_session(unpacked(path)) as embed:
        found = parity.compare(expected, parity.embed_all(embed, inputs))
    assert found.min_cosine > 0.99999
    operators = Counter(node.op_type for node in onnx.load(path).graph.node)
    blocks = {"vision": 4, "text": 3}[tower]
    assert operators["BiasGelu"] == blocks
    assert operators["SkipLayerNormalization"] == 2 * blocks
    assert operators["RotaryEmbedding"] == (0 if tower == "text" else blocks if form.packed else 2 * blocks)
    # No cast within the blocks. With the FP32 stream, each sum and each norm has one.
    assert operators["Cast"] < 2 * blocks + 3


class Up(nn.Module):
    """The first half of an MLP."""

    def __init__(self, form: Form, activation: nn.Module) -> None:
        super().__init__()
        self.form, self.linear, self.activation = form, nn.Linear(8, 16), activation

    def forward(self, x: Tensor) -> Tensor:
        return self.form.activate(x, self.linear, self.activation)


def test_bias_gelu_is_exact(tmp_path: Path) -> None:
    x, module = 4 * torch.randn(2, 3, 8), Up(Fused(bias_gelu=True), nn.GELU())
    path = exported(module, x, tmp_path)
    assert "BiasGelu" in {node.op_type for node in onnx.load(path).graph.node}
    before = module.linear(x)
    expected = nn.functional.gelu(before)
    assert not torch.allclose(expected, nn.functional.gelu(before, approximate="tanh"), atol=1e-4)
    with onnxruntime_session(path) as embed:
        np.testing.assert_allclose(embed(x.numpy()), expected.numpy(), atol=1e-5)


def test_another_activation_is_not_replaced(tmp_path: Path) -> None:
    x, module = torch.randn(2, 3, 8), Up(Fused(bias_gelu=True), nn.GELU(approximate="tanh"))
    with onnxruntime_session(exported(module, x, tmp_path)) as embed:
        expected = nn.functional.gelu(module.linear(x), approximate="tanh")
        np.testing.assert_allclose(embed(x.numpy()), expected.numpy(), atol=1e-5)


class Sum(nn.Module):
    """`add_norm` with the stream in FP16, of which the output is the sum and its norm in FP32, [N, S, 2 W]."""

    def __init__(self, form: Form, width: int) -> None:
        super().__init__()
        self.form, self.linear, self.norm = form, nn.Linear(4, width).to(FP16), nn.LayerNorm(width)
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        total, normed = self.form.add_norm(x.to(FP16), x[..., :4].to(FP16), self.linear, self.norm)
        return torch.cat((total.float(), normed.float()), dim=-1)


def test_the_fp16_stream_is_added_and_normed_where_squares_exceed_fp16(tmp_path: Path) -> None:
    x, module = 400 * torch.randn(2, 3, 64), Sum(Fused(half_stream=True), 64)
    path = exported(module, x, tmp_path)
    total = x.to(FP16).float() + nn.functional.linear(
        x[..., :4].to(FP16).float(), module.linear.weight.float(), module.linear.bias.float()
    )
    assert (total**2).mean() > torch.finfo(FP16).max
    expected = torch.cat((total, module.norm(total)), dim=-1).numpy()
    with onnxruntime_session(path) as embed:
        found = embed(x.numpy())
    np.testing.assert_allclose(found[..., :64], expected[..., :64], rtol=2e-3, atol=1)
    np.testing.assert_allclose(found[..., 64:], expected[..., 64:], rtol=2e-3, atol=5e-3)
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    (node,) = (node for node in model.graph.node if node.op_type == "SkipLayerNormalization")
    assert {types[name] for name in node.input if name in types} == {onnx.TensorProto.FLOAT16}


class Alone(nn.Module):
    """Attention and its output projection."""

    def __init__(self, rewritten: attention.SelfAttention) -> None:
        super().__init__()
        self.rewritten = rewritten

    def forward(self, x: Tensor) -> Tensor:
        attended: Tensor = self.rewritten.out(self.rewritten(x))
        return attended


def amplify(module: nn.Module) -> None:
    """Make weights larger. With the small initial weights of a tower, attention is nearly uniform and hides errors."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=2 / parameter.shape[-1] ** 0.5)


@pytest.mark.parametrize("form", [Fused(rotary_width=1), Fused(packed=True), Fused(rotary_width=1, packed=True)])
def test_rotary_attention_is_timms(form: Fused, tmp_path: Path) -> None:
    tower: Any = build_tower(DEMO, "vision")
    trunk = tower.trunk
    embed, original = trunk.rope.get_embed(), trunk.blocks[0].attn
    amplify(original)
    x = torch.randn(2, trunk.num_prefix_tokens + len(embed), trunk.embed_dim)
    expected = original(x, rope=embed)
    table = attention.rotary_table(embed, trunk.num_prefix_tokens, original.num_heads, form, torch.float32)
    path = exported(Alone(attention.vision_attention(original, table, form)), x, tmp_path)
    with onnxruntime_session(unpacked(path)) as attend:
        np.testing.assert_allclose(attend(x.numpy()), expected.numpy(), atol=1e-4, rtol=1e-4)
    if form.packed:  # If the provider learns it, the test can do without `unpacked`.
        with pytest.raises(ParityError, match="Packed QKV"), onnxruntime_session(path) as attend:
            attend(x.numpy())


def test_packed_causal_attention_is_open_clips(tmp_path: Path) -> None:
    text: Any = build_tower(DEMO, "text")
    x = torch.randn(2, text.context_length, text.width)
    block = text.transformer.resblocks[0]
    amplify(block.attn)
    expected = block.attn(x, x, x, need_weights=False, attn_mask=text.attn_mask)[0]
    path = exported(Alone(attention.text_attention(block.attn, Fused(packed=True))), x, tmp_path)
    with onnxruntime_session(unpacked(path)) as attend:
        np.testing.assert_allclose(attend(x.numpy()), expected.numpy(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("form", "heads"), [(Fused(), 16), (Fused(rotary_width=1), 1), (Fused(packed=True), 4)])
def test_heads_that_rotate_as_one_fit_into_a_block_of_threads(form: Fused, heads: int) -> None:
    cosine, sine = torch.rand(2, 5, 32)
    table = form.rotary_table(cosine, sine, 16, FP16)
    assert table.shape == (2, 5, heads * 32 * (3 if form.packed else 1))
    assert 2 * table.shape[-1] <= 1024


def test_the_exported_form_makes_none_of_these_choices() -> None:
    assert FORMS["fused"] == Fused()
    assert Fused() == Fused(rotary_width=1024, bias_gelu=False, half_stream=False, packed=False)
