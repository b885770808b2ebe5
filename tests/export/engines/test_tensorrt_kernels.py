"""Read listings of kernels in the formats of TensorRT 10 and of TensorRT for RTX, and in formats that are neither.

`test_tensorrt_compiler.py` reads those that the real compiler writes.
"""

from pathlib import Path

import pytest

from export.engines.roofline import GPUS, work_of
from export.engines.tensorrt_kernels import (
    CompilerMessages,
    GraphNodes,
    KernelReport,
    parse,
    read_graph,
    report,
    role_of,
)
from tests.export.engines.small_graph import LAYERS, small_graph

pytestmark = pytest.mark.export

GRAPH = GraphNodes(
    {
        "qkv": "MatMul",
        "turn": "Transpose",
        "scores": "MatMul",
        "softmax": "Softmax",
        "sums": "MatMul",
        "out": "MatMul",
        "norm": "LayerNormalization",
    },
    half=True,
)


def tensor(shape: str, dtype: str, *, release_10: bool) -> str:
    if release_10:
        return f"{{ Name: a b, Dimensions: [{shape}], Format/Datatype: {dtype} }}"
    return (
        f"{{ Name: a b, Dimensions: [{shape}], Strides: [{shape}], StrideOrder: [1,0], Datatype: {dtype}, "
        "Format: (Linear) Row major linear format }"
    )


def line(
    kind: str,
    nodes: str,
    inputs: list[tuple[str, str]],
    weights: list[tuple[str, str]],
    outputs: list[tuple[str, str]],
    *,
    release_10: bool = False,
    tactic: str = "",
) -> str:
    texts = []
    for tensors in (inputs, weights, outputs):
        listed = ", ".join(tensor(shape, dtype, release_10=release_10) for shape, dtype in tensors)
        texts.append(f"[ {listed}]" if listed else "[]")
    constants = "" if release_10 else f"Constants: {texts[1]}, "
    metadata = "".join(f"[ONNX Layer: {node}]" for node in nodes.split())
    return (
        f"Name: {kind} of, {nodes}, LayerType: {kind}, Inputs: {texts[0]}, {constants}Outputs: {texts[2]}, "
        f"TacticName: {tactic}, StreamId: 0, Metadata: {metadata}"
    )


def listing(
    *, release_10: bool = False, product: str = "Half", weights: str = "Half", fused: bool = True, tactic: str = ""
) -> str:
    """One block: a product, a kernel that moves data, attention of 2 heads of 4 numbers, a product and a norm."""
    x, heads = ("6,8", product), ("4,3,4", "Half")

    def kernel(kind: str, nodes: str, *tensors: list[tuple[str, str]], tactic: str = "") -> str:
        return line(kind, nodes, *tensors, release_10=release_10, tactic=tactic)

    attention = [
        kernel("kgen", "scores", [heads, heads], [], [("4,3,3", "Float")]),
        kernel("kgen", "softmax", [("4,3,3", "Float")], [], [("4,3,3", "Half")]),
        kernel("kgen", "sums", [("4,3,3", "Half"), heads], [], [heads]),
    ]
    if fused:
        attention = [kernel("kgen", "scores softmax sums", [heads, heads, heads], [], [heads])]
    return "\n".join(
        [
            "Layers:",
            kernel("shape_call", "", [], [], []),
            kernel("gemm", "qkv", [x], [("8,24", weights), ("1", "Float")], [("6,24", "Half")], tactic=tactic),
            kernel("kgen", "turn", [("6,24", "Half")], [], [heads, heads, heads]),
            kernel("wait", "", [], [], []),
            *attention,
            kernel("runtime_fusion", "out", [("6,8", "Half")], [("8,8", "Half")], [("6,8", "Half")]),
            kernel("kgen", "norm", [("6,8", "Half"), ("6,8", "Float")], [], [("6,8", "Float")]),
        ]
    )


def reported(text: str, graph: GraphNodes = GRAPH) -> KernelReport | None:
    messages = CompilerMessages()
    for message in ("Parsing", text, "Total Activation Memory: 4096 bytes", "Total Weights Memory: 7 bytes"):
        messages.hear(None, message)
    return report(messages, graph)


@pytest.mark.parametrize("release_10", [False, True])
def test_kernels_are_counted_by_what_they_do(release_10: bool) -> None:
    found = reported(listing(release_10=release_10))
    assert found == KernelReport(
        kernels=5,
        kernels_per_block=5,
        products=2,
        fp32_products=0,
        half=True,
        attentions=1,
        fused_attentions=1,
        norms=1,
        moving=1,
        scratch_bytes=4096,
    )
    assert not found.problems()


def test_an_attention_in_several_kernels_is_a_problem() -> None:
    found = reported(listing(fused=False))
    assert found is not None
    assert (found.attentions, found.fused_attentions) == (1, 0)
    assert found.problems() == ["TensorRT fused 0 of 1 attentions"]


@pytest.mark.parametrize(
    "text",
    [
        listing(product="Float"),
        listing(weights="Float"),
        listing(product="Float", release_10=True),
        listing(product="Row major linear FP32 format", release_10=True),
        listing(product="E8M0"),  # A type that is not known is no pass.
        listing(tactic="sm80_xmma_gemm_f32f32_tf32f32_f32_nn_n_tilesize32x32x64"),
    ],
)
def test_a_product_in_fp32_is_a_problem_of_a_half_precision_graph(text: str) -> None:
    found = reported(text)
    assert found is not None
    assert found.problems() == ["TensorRT computes 1 of 2 products in FP32"]
    in_fp32 = reported(text, GraphNodes(GRAPH.operators, half=False))
    assert in_fp32 is not None
    assert not in_fp32.problems()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Engine Layer Information:\nLayer(Myelin): {ForeignNode[qkv...norm]}, Tactic: 0x0, image -> out",
        listing().replace("Outputs: ", "Results: "),
        listing().replace("Dimensions: ", "Shape: "),
        listing().replace("[ONNX Layer: sums]", ""),
        listing().replace("ONNX Layer", "Node"),
        listing().replace("Name: wait of", "wait of"),
    ],
    ids=["none", "names only", "no outputs", "no dimensions", "no sums", "no nodes", "one line"],
)
def test_a_listing_that_is_not_understood_is_unknown(text: str) -> None:
    assert reported(text) is None


def test_a_graph_is_read_with_its_precision(tmp_path: Path) -> None:
    graph = read_graph(small_graph(tmp_path / "model.onnx"))
    assert sorted(graph.operators.values()) == ["MatMul"] * LAYERS + ["Relu"] * LAYERS
    assert graph.half


def test_work_is_counted_from_shapes() -> None:
    kernels = parse(listing())
    assert kernels is not None
    work = work_of(kernels, GRAPH.operators)
    assert work is not None
    assert [part.role for part in work] == [role_of(kernel, GRAPH.operators) for kernel in kernels]
    qkv, turn, attention, out, norm = work
    assert qkv.flop == 2 * 6 * 8 * 24
    assert qkv.bytes == 2 * (6 * 8 + 8 * 24 + 6 * 24) + 4
    assert attention.flop == 2 * 2 * 4 * 3 * 3 * 4  # two products, 4 heads, 3 queries, 3 keys, 4 numbers
    assert out.flop == 2 * 6 * 8 * 8
    assert turn.flop == norm.flop == 0
    assert turn.bytes == 2 * 6 * 24 * 2
    assert norm.bytes == 6 * 8 * (2 + 4 + 4)
    h100 = GPUS[0]
    assert norm.seconds(h100) == norm.bytes / h100.bytes_per_second


@pytest.mark.parametrize("size", ["-1", "6"])
def test_work_of_an_unknown_size_is_unknown(size: str) -> None:
    text = listing().replace("[6,24]", f"[{size},24]")
    kernels = parse(text)
    assert kernels is not None
    assert (work_of(kernels, GRAPH.operators) is None) == (size == "-1")
