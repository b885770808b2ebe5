"""Read from TensorRT's messages which kernels the compiler made, and check them against the ONNX graph.

With `ProfilingVerbosity.DETAILED`, TensorRT writes the layers of a finished engine as one message at severity VERBOSE.
A line describes a kernel: its name, its kind, the dimensions and types of its tensors, and in `Metadata` the ONNX nodes
that it computes. TensorRT 10 and TensorRT for RTX 1.7 write the same lines; release 10 names the type `Format/Datatype`
and has no strides. Neither promises the format. So a message of another format, or one that misses a product of the
graph, gives "unknown", never a pass.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Final, Literal

Role = Literal["product", "attention", "norm", "moving"]
"""The work of a kernel. `moving` is all that is neither of the others: transposing, copying, rotating, casting."""

_PRODUCTS: Final = {"MatMul", "Gemm"}
_ATTENTION: Final = {"Softmax", "Attention"}
_NORMS: Final = {"LayerNormalization"}

_TENSORS: Final = r"\[( \{ Name: .*? \})?\]"
_LINE: Final = re.compile(
    rf"Name: (.*?), LayerType: (\w+), Inputs: {_TENSORS}(?:, Constants: {_TENSORS})?, Outputs: {_TENSORS}, "
    r"(.*Metadata:.*)"
)
_TENSOR: Final = re.compile(
    r"\{ Name: (?P<name>.*?),(?: Location: \w+,)? Dimensions: \[(?P<shape>[-\d,]*)\](?P<between>[^{}]*?)"
    r"\b(?:Format/)?Datatype: (?P<dtype>[^,{}]*)"
)
_NODE: Final = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
_TACTIC: Final = re.compile(r"TacticName: ([^,]*)")
_SCRATCH: Final = re.compile(r"Total Activation Memory: (\d+) bytes")
# The kinds whose lines describe no kernel: the order of streams, and shapes that the CPU computes.
_NO_KERNELS: Final = {"wait", "signal", "shape_call"}
# A type is found by a part of its name, such as "Row major linear FP16 format". So "BFloat16" comes before "Float".
_TYPES: Final = (
    ("BFloat16", "bf16"), ("BF16", "bf16"), ("Half", "fp16"), ("FP16", "fp16"), ("Float", "fp32"), ("FP32", "fp32"),
    ("UInt8", "uint8"), ("UINT8", "uint8"), ("Int64", "int64"), ("INT64", "int64"), ("Int32", "int32"),
    ("INT32", "int32"), ("Int8", "int8"), ("INT8", "int8"), ("Bool", "bool"), ("BOOL", "bool"),
)  # fmt: skip
_BYTES: Final = {"bf16": 2, "fp16": 2, "fp32": 4, "int64": 8, "int32": 4, "uint8": 1, "int8": 1, "bool": 1}


@dataclass(frozen=True)
class KernelTensor:
    """A tensor that a kernel reads or writes."""

    shape: tuple[int, ...]
    """-1 for a size that depends on the batch."""
    dtype: str
    """As in `export.graph.spec.Precision`, or "int32" and the like. Empty if the listing has another name for it."""

    @property
    def elements(self) -> int | None:
        """Number of elements. None if it depends on the batch."""
        count = 1
        for size in self.shape:
            if size < 0:
                return None
            count *= size
        return count

    @property
    def size(self) -> int | None:
        """Size in bytes. None if it depends on the batch, or the type is not known."""
        elements = self.elements
        return None if elements is None or self.dtype not in _BYTES else elements * _BYTES[self.dtype]

    @property
    def is_matrix(self) -> bool:
        """True if at least two sizes are not 1, as those of a product's operands."""
        return sum(size != 1 for size in self.shape) >= 2


@dataclass(frozen=True)
class Kernel:
    """One line of the listing."""

    name: str
    kind: str
    """TensorRT's word: gemm, kgen, runtime_fusion."""
    inputs: tuple[KernelTensor, ...]
    constants: tuple[KernelTensor, ...]
    outputs: tuple[KernelTensor, ...]
    nodes: tuple[str, ...]
    """The ONNX nodes that the kernel computes, fully or partly."""
    tactic: str


@dataclass(frozen=True)
class GraphNodes:
    """What the check needs to know of an ONNX graph."""

    operators: Mapping[str, str]
    """The operator of each node, by the node's name."""
    half: bool
    """Whether products are in FP16 or BF16."""


@dataclass(frozen=True)
class KernelReport:
    """What the compiler made of a graph. The engine `tensorrt` writes it beside the plan."""

    kernels: int
    kernels_per_block: int
    """Kernels from one attention to the next, as the median over the graph."""
    products: int
    fp32_products: int
    """Products with an FP32 operand. In a graph of FP16 or BF16 there must be none."""
    half: bool
    """Whether the graph's products are in FP16 or BF16."""
    attentions: int
    """Attentions of the graph."""
    fused_attentions: int
    """Attentions that one kernel computes: both products and the softmax."""
    norms: int
    moving: int
    scratch_bytes: int | None
    """Memory of activations for the largest batch of the optimization profile. None if TensorRT did not write it."""

    def problems(self) -> list[str]:
        """List what makes the plan slow, in words for a warning."""
        found = []
        if self.fused_attentions != self.attentions:
            found.append(f"TensorRT fused {self.fused_attentions} of {self.attentions} attentions")
        if self.half and self.fp32_products:
            found.append(f"TensorRT computes {self.fp32_products} of {self.products} products in FP32")
        return found

    def as_json(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return asdict(self)


class CompilerMessages:
    """Keeps what TensorRT's messages say about the engine. `hear` is a `tensorrt_compiler.Listen`."""

    def __init__(self) -> None:
        self.listing = ""
        self.scratch_bytes: int | None = None

    def hear(self, severity: Any, text: str) -> None:
        if "LayerType: " in text:
            self.listing = text  # The last one describes the finished engine.
        elif found := _SCRATCH.search(text):
            self.scratch_bytes = int(found[1])


def detailed(trt: Any, config: Any) -> None:
    """Configure a build so that the compiler writes its kernels and plans keep their description."""
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED


def parse(listing: str) -> list[Kernel] | None:
    """Parse the message that lists the kernels.

    Returns:
        The kernels in the order of their execution. None if one line is not in the known format.
    """
    kernels = []
    for line in listing.splitlines():
        if "LayerType: " not in line:
            continue
        found = _LINE.fullmatch(line.strip())
        if found is None:
            return None
        name, kind, *parts, rest = (part or "" for part in found.groups())
        if kind in _NO_KERNELS:
            continue
        inputs, constants, outputs = (_tensors(part) for part in parts)
        if inputs is None or constants is None or outputs is None:
            return None
        tactic = _TACTIC.search(rest)
        nodes = tuple(_NODE.findall(rest))
        kernels.append(Kernel(name, kind, inputs, constants, outputs, nodes, tactic[1] if tactic else ""))
    return kernels or None


def read_graph(path: Path) -> GraphNodes:
    """Read the nodes of an ONNX file, and the types of its weights."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    halves = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    weights = [tensor.data_type for tensor in graph.initializer if len(tensor.dims) == 2]
    return GraphNodes(
        operators={node.name: node.op_type for node in graph.node}, half=any(each in halves for each in weights)
    )


def role_of(kernel: Kernel, operators: Mapping[str, str]) -> Role:
    """Decide what a kernel does from the operators of its nodes."""
    found = {operators.get(node, "") for node in kernel.nodes}
    if found & _ATTENTION:
        return "attention"
    if found & _PRODUCTS or kernel.kind == "gemm":
        return "product"
    return "norm" if found & _NORMS else "moving"


def report(messages: CompilerMessages, graph: GraphNodes) -> KernelReport | None:
    """Check the compiler's kernels against the graph.

    Args:
        messages: what TensorRT wrote during the build.
        graph: the graph that was compiled.

    Returns:
        None if the listing is missing, has another format, or does not name all products and attentions of the graph.
    """
    kernels, operators = parse(messages.listing), graph.operators
    if kernels is None:
        return None
    named = {node for kernel in kernels for node in kernel.nodes}
    if any(name not in named for name, operator in operators.items() if operator in _PRODUCTS | _ATTENTION):
        return None
    roles = [role_of(kernel, operators) for kernel in kernels]
    products = [kernel for kernel, role in zip(kernels, roles, strict=True) if role == "product"]
    if any(not _operands(kernel) for kernel in products):
        return None
    softmaxes = [name for name, operator in operators.items() if operator in _ATTENTION]
    at = [position for position, role in enumerate(roles) if role == "attention"]
    steps = [after - before for before, after in pairwise(at)]
    return KernelReport(
        kernels=len(kernels),
        kernels_per_block=round(median(steps)) if steps else len(kernels),
        products=len(products),
        fp32_products=sum(_is_fp32(kernel) for kernel in products),
        half=graph.half,
        attentions=len(softmaxes),
        fused_attentions=sum(_is_fused(name, kernels, operators) for name in softmaxes),
        norms=roles.count("norm"),
        moving=roles.count("moving"),
        scratch_bytes=messages.scratch_bytes,
    )


def _tensors(text: str) -> tuple[KernelTensor, ...] | None:
    found = [
        KernelTensor(tuple(int(size) for size in match["shape"].split(",") if size), _dtype(match["dtype"]))
        for match in _TENSOR.finditer(text)
    ]
    return tuple(found) if len(found) == text.count("{ Name: ") else None


def _dtype(words: str) -> str:
    return next((name for word, name in _TYPES if word in words), "")


def _is_fused(attention: str, kernels: list[Kernel], operators: Mapping[str, str]) -> bool:
    """Check that one kernel alone computes the softmax, and that it also computes the products before and after."""
    having = [kernel for kernel in kernels if attention in kernel.nodes]
    if len(having) != 1:
        return False
    inside = [operators.get(node, "") for node in having[0].nodes]
    return operators[attention] == "Attention" or sum(operator in _PRODUCTS for operator in inside) >= 2


def _operands(kernel: Kernel) -> list[KernelTensor]:
    return [tensor for tensor in (*kernel.inputs, *kernel.constants) if tensor.is_matrix]


def _is_fp32(kernel: Kernel) -> bool:
    """Check if a product has an FP32 operand. A fused sum may add one FP32 input, but weights show the product's type.

    A type that this module does not know counts as FP32, so that it is noticed.
    """
    half = {"fp16", "bf16"}
    weights = [tensor for tensor in kernel.constants if tensor.is_matrix]
    inputs = [tensor for tensor in kernel.inputs if tensor.is_matrix]
    if "f32f32_f32f32" in kernel.tactic or "tf32" in kernel.tactic:
        return True
    if weights:
        return any(tensor.dtype not in half for tensor in weights) or not any(tensor.dtype in half for tensor in inputs)
    return not any(tensor.dtype in half for tensor in inputs)
