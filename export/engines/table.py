"""What can serve a graph, in one table: Triton's backend, the file it looks for, and what it is given."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Precision = Literal["fp32", "fp16", "bf16"]
GraphForm = Literal["fused", "elementary"]


@dataclass(frozen=True)
class Engine:
    """One row."""

    name: str
    backend: str
    """The name of Triton's backend."""
    file: str
    """What that backend loads from a version directory."""
    form: GraphForm
    """See `forms`."""
    precisions: tuple[Precision, ...]
    """What it can be exported in; the first is the default."""
    graph_precision: Precision | None = None
    """The precision of the graph, where it is not the precision of the engine."""
    names_file: bool = False
    """Whether `config.pbtxt` must name the file, because the backend would look for another."""
    instances: int = 1
    """How many run at once, on each device."""
    device: Literal["KIND_AUTO", "KIND_CPU", "KIND_GPU"] = "KIND_AUTO"
    """Where; KIND_AUTO is a GPU where there is one, and the CPU where not."""
    builds_plan: bool = False
    """Whether the graph is only the source of what is served."""
    warms_up_full_batch: bool = False
    """Whether the largest batch, too, is inferred before the model is ready; one input always is."""
    cuda_graphs: bool = False
    backend_parameters: Mapping[str, str] = field(default_factory=dict)
    """What the backend itself reads from `parameters`."""
    bf16_parameters: Mapping[str, str] = field(default_factory=dict)
    """What it reads besides, to run in BF16."""

    def parameters_for(self, precision: Precision) -> dict[str, str]:
        return {**self.backend_parameters, **(self.bf16_parameters if precision == "bf16" else {})}

    def precision_of_graph(self, precision: Precision) -> Precision:
        return self.graph_precision or precision


_ROWS = (
    Engine(
        name="onnx",
        backend="onnxruntime",
        file="model.onnx",
        form="fused",
        precisions=("fp32", "fp16", "bf16"),
        warms_up_full_batch=True,
    ),
    # Parameters: README of github.com/triton-inference-server/openvino_backend. The graph is FP32; with the hint it is
    # run in BF16 where the CPU has it (AMX, AVX512-BF16). Without the hint the embedded server runs FP32, but Triton's
    # own backend leaves the choice to OpenVINO, which is BF16 on such a CPU.
    Engine(
        name="openvino",
        backend="openvino",
        file="model.onnx",
        form="elementary",
        precisions=("bf16", "fp32"),
        graph_precision="fp32",
        names_file=True,
        instances=2,
        device="KIND_CPU",
        backend_parameters={"PERFORMANCE_HINT": "THROUGHPUT"},
        bf16_parameters={"HINT_BF16": "YES"},
    ),
    # Two instances overlap one's copies with the other's work. A plan's name says what it is tied to: `names_file`.
    Engine(
        name="tensorrt",
        backend="tensorrt",
        file="model.plan",
        form="elementary",
        precisions=("fp16", "bf16", "fp32"),
        names_file=True,
        instances=2,
        device="KIND_GPU",
        builds_plan=True,
        warms_up_full_batch=True,
        cuda_graphs=True,
    ),
)

ENGINES: Mapping[str, Engine] = MappingProxyType({row.name: row for row in _ROWS})
