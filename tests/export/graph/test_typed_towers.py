from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from export import parity
from export.engines import ENGINES
from export.engines.onnx import onnxruntime_session
from export.engines.openvino import openvino_model
from export.errors import GraphError
from export.graph import onnx_graph
from export.graph.forms import FORMS
from export.graph.spec import GraphForm, Precision
from export.graph.typed_towers import typed_tower
from export.parity import torch_reference
from export.repository.triton_config import INPUTS
from export.samples import samples
from export.variants import TOWERS, Tower, find_variant
from export.weights.checkpoint import load_tower, open_checkpoint
from tests.export.bf16_graph import as_bf16

pytestmark = [pytest.mark.export, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

DEMO = find_variant("PE-Demo-T8-64")
GraphOf = Callable[[Tower, Precision, GraphForm], onnx.ModelProto]
HALVES = {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}


@pytest.mark.parametrize("form", ["elementary", "packed"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("tower", TOWERS)
def test_the_typed_tower_embeds_as_open_clips_own(
    random_checkpoint: Path, tower: Tower, precision: Precision, form: GraphForm
) -> None:
    inputs = samples(DEMO, tower)[:8]
    opened = open_checkpoint(random_checkpoint)
    network = load_tower(DEMO, tower, opened)
    expected = torch_reference(network)(inputs)
    actual = torch_reference(typed_tower(network, precision, FORMS[form]))(inputs)
    assert actual.dtype == np.float32
    parity.require(parity.compare(expected, actual), precision)


def test_the_first_end_token_counts_as_in_the_reference(random_checkpoint: Path) -> None:
    tokens = np.zeros((4, 32), np.int32)
    tokens[:, 0] = 49406
    for row, ends in enumerate(([5], [3, 9], [31], [1, 2, 30])):
        tokens[row, 1 : max(ends)] = 320 + row
        tokens[row, ends] = 49407
    network = load_tower(DEMO, "text", open_checkpoint(random_checkpoint))
    expected = torch_reference(network)(tokens)
    actual = torch_reference(typed_tower(network, "fp32", FORMS["elementary"]))(tokens)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def texts_of_all_lengths() -> parity.Array:
    """Return tokens [31, 32]: one text for each length from 2 to 32, with random tokens after its end token."""
    generator = np.random.default_rng(0)
    tokens = generator.integers(1, 49406, (31, 32), np.int32)
    tokens[:, 0] = 49406
    tokens[np.arange(31), np.arange(1, 32)] = 49407
    return tokens


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("form", FORMS)
def test_tokens_after_the_first_end_token_can_be_left_out(
    random_checkpoint: Path, tmp_path: Path, form: GraphForm, runtime: str
) -> None:
    tokens = texts_of_all_lengths()
    network = load_tower(DEMO, "text", open_checkpoint(random_checkpoint))
    expected = torch_reference(network)(tokens)
    example = torch.from_numpy(tokens[:2])
    graph = onnx_graph.export_graph(
        typed_tower(network, "fp32", FORMS[form]), "tokens", example, tmp_path / "model.onnx"
    )
    with onnxruntime_session(graph.path) if runtime == "onnxruntime" else openvino_model(graph.path, "fp32") as embed:
        for length in (32, 2, 31, 7, 8, 9, 32):
            actual = embed(np.ascontiguousarray(tokens[: length - 1, :length]))
            figures = parity.compare(expected[: length - 1], actual)
            assert figures.min_cosine > 0.9999999
            assert figures.max_abs_error < 1e-6


def test_a_text_cut_before_its_end_token_gets_another_embedding(random_checkpoint: Path) -> None:
    """Without this, the test above could pass with a tower that ignores its tokens."""
    tokens = texts_of_all_lengths()[20:21]
    embed = torch_reference(
        typed_tower(load_tower(DEMO, "text", open_checkpoint(random_checkpoint)), "fp32", FORMS["elementary"])
    )
    assert parity.compare(embed(tokens), embed(tokens[:, :21])).min_cosine < 0.99


@pytest.fixture(scope="module")
def graph_of(random_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> GraphOf:
    """Export a tower's graph, once for all tests."""

    @cache
    def export(tower: Tower, precision: Precision, form: GraphForm) -> onnx.ModelProto:
        network = typed_tower(load_tower(DEMO, tower, open_checkpoint(random_checkpoint)), precision, FORMS[form])
        example = torch.from_numpy(samples(DEMO, tower)[:2])
        path = tmp_path_factory.mktemp("graph") / "model.onnx"
        graph = onnx_graph.export_graph(network, INPUTS[tower][0], example, path)
        return onnx.shape_inference.infer_shapes(onnx.load(graph.path))

    return export


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    graph = model.graph
    named = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    return named | {tensor.name: tensor.data_type for tensor in graph.initializer}


@pytest.mark.parametrize("tower", TOWERS)
def test_a_bf16_graph_is_the_fp16_graph_with_another_type(graph_of: GraphOf, tower: Tower) -> None:
    """The tests of TensorRT rely on it. The weights differ in their rounding."""
    swapped, exported = onnx.ModelProto(), graph_of(tower, "bf16", "packed")
    swapped.CopyFrom(graph_of(tower, "fp16", "packed"))
    as_bf16(swapped)
    assert list(map(without_values, swapped.graph.node)) == list(map(without_values, exported.graph.node))
    assert types_of(swapped) == types_of(exported)


def without_values(node: onnx.NodeProto) -> tuple[object, ...]:
    attributes = [
        (
            attribute.name,
            attribute.t.data_type,
            tuple(attribute.t.dims),
            attribute.i,
            tuple(attribute.ints),
            attribute.f,
        )
        for attribute in node.attribute
    ]
    return node.op_type, tuple(node.input), tuple(node.output), attributes


@pytest.mark.parametrize("form", ["elementary", "packed"])
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("tower", TOWERS)
def test_the_graph_says_its_precision_itself(
    graph_of: GraphOf, tower: Tower, precision: Precision, form: GraphForm
) -> None:
    model = graph_of(tower, precision, form)
    types, half = types_of(model), HALVES[precision]
    for node in model.graph.node:
        if node.op_type in ("MatMul", "Gemm", "Gelu"):
            assert {types[name] for name in node.input} == {half}, node.name
        if node.op_type in ("LayerNormalization", "Softmax", "ReduceL2"):
            assert types[node.input[0]] == onnx.TensorProto.FLOAT, node.name
    assert types["embedding"] == onnx.TensorProto.FLOAT
    if tower == "vision":  # In TensorRT only Cast may read UINT8.
        assert {node.op_type for node in model.graph.node if "image" in node.input} <= {"Cast", "Shape"}
    assert types[INPUTS[tower][0]] in (onnx.TensorProto.UINT8, onnx.TensorProto.INT32)
    weights = [tensor for tensor in model.graph.initializer if len(tensor.dims) == 2 and min(tensor.dims) > 32]
    assert weights
    assert {tensor.data_type for tensor in weights} == {half}


def test_fp32_graph_has_no_other_precision(exported: Path) -> None:
    path = exported / DEMO.model_name("vision") / "1" / "model.onnx"
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    assert not set(types_of(model).values()) & set(HALVES.values())


def test_every_block_has_onnxruntimes_own_operators(graph_of: GraphOf) -> None:
    for tower, blocks, rotations in (("vision", 4, 8), ("text", 3, 0)):
        model = graph_of(tower, "fp16", "fused")  # type: ignore[arg-type]
        operators = Counter(node.op_type for node in model.graph.node)
        pools = tower == "vision"
        assert operators["MultiHeadAttention"] == blocks + pools
        assert operators["RotaryEmbedding"] == rotations
        assert operators["SkipLayerNormalization"] == 2 * blocks  # Each sum is fused with its norm.
        assert operators["Softmax"] == 0
        assert {entry.domain for entry in model.opset_import} == {"", "com.microsoft"}


def test_the_stream_of_a_fused_graph_is_fp32(graph_of: GraphOf) -> None:
    model = graph_of("vision", "fp16", "fused")
    types = types_of(model)
    for node in model.graph.node:
        if node.op_type == "SkipLayerNormalization":  # With FP16 the kernel would add squares in FP16.
            known = {types[name] for name in node.input if name in types}
            assert known == {onnx.TensorProto.FLOAT}, node.name


def test_an_mlp_of_other_parts_is_refused(random_checkpoint: Path) -> None:
    network: Any = load_tower(DEMO, "text", open_checkpoint(random_checkpoint))
    network.text.transformer.resblocks[1].mlp.append(torch.nn.ReLU())
    with pytest.raises(GraphError, match="a block's MLP is not Perception Encoder's"):
        typed_tower(network, "fp32", FORMS["elementary"])


def test_every_engines_first_precision_is_its_default_and_in_the_tolerances() -> None:
    for engine in ENGINES.values():
        assert set(engine.precisions) <= parity.MIN_COSINE.keys()
        assert engine.form in FORMS
