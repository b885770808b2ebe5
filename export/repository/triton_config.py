"""What Triton is told about a model: a typed description -> `config.pbtxt`, through Triton's own protobuf.

Only fields that both the embedded server (2.51) and current releases know. One instance of an ONNX model, of no kind:
Triton then chooses a GPU where it has one and the CPU where not. Told nothing, it starts two on a CPU, and they slowed
each other down when measured. Left out on purpose: a queue policy (it would turn the batcher's prefetch off) and
preferred batch sizes. The response cache is asked for by the text tower alone, whose few input bytes are hashed in no
time; a server without a cache ignores that.
Fields: https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from export.engines.table import Engine, Precision
from export.variants import Tower, Variant

# How long a batch that could still grow may wait, in microseconds. Not at all: while one batch runs, the next one
# gathers by itself. Measured beside 500, 1000 and 2000 (export/README.md): a request that was alone paid the delay in
# full, up to 0.56 of its rate at 500, and 16 at a time gained nothing that exceeded the spread.
MAX_QUEUE_DELAY_US = 0

# Batches that a CUDA graph is captured for, besides the largest: launches matter in small ones. With dynamic batching
# Triton captures only what is listed (tensorrt_backend, src/instance_state.cc).
_CUDA_GRAPH_BATCH_SIZES = (1, 2, 4, 8)

# What each tower's input tensor is called, and its type.
INPUTS: Mapping[Tower, tuple[str, str]] = {"vision": ("image", "TYPE_UINT8"), "text": ("tokens", "TYPE_INT32")}
OUTPUT = "embedding"


@dataclass(frozen=True)
class TensorSpec:
    """A tensor of the model, without the batch axis; `data_type` as Triton spells it."""

    name: str
    data_type: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class TritonModel:
    """A model as `config.pbtxt` describes it."""

    name: str
    backend: str
    max_batch_size: int
    input: TensorSpec
    output: TensorSpec
    parameters: Mapping[str, str]
    """What the model is; the gateway shows it at `/info`."""
    warm_up_batch_sizes: tuple[int, ...] = (1,)
    """Inferred once each before the model is ready."""
    default_model_filename: str = ""
    """The file to load, where the backend would look for another."""
    instances: int = 1
    """How many run at once, on each device."""
    device: str = "KIND_AUTO"
    """Where, as Triton spells it."""
    cuda_graph_batch_sizes: tuple[int, ...] = ()
    """Batch sizes that are captured as CUDA graphs."""
    response_cache: bool = False
    """Whether answers may come from the server's cache, where it has one."""
    max_queue_delay_us: int = MAX_QUEUE_DELAY_US

    def to_protobuf(self) -> Any:
        """Triton's `inference.ModelConfig`."""
        config = pb.ModelConfig(name=self.name, backend=self.backend, max_batch_size=self.max_batch_size)
        for tensors, spec in ((config.input, self.input), (config.output, self.output)):
            tensors.add(name=spec.name, data_type=pb.DataType.Value(spec.data_type), dims=spec.shape)
        config.instance_group.add(count=self.instances, kind=pb.ModelInstanceGroup.Kind.Value(self.device))
        config.dynamic_batching.SetInParent()  # without a delay it is empty, and must be there all the same
        config.dynamic_batching.max_queue_delay_microseconds = self.max_queue_delay_us
        for batch_size in self.warm_up_batch_sizes:
            warm_up = config.model_warmup.add(name=f"batch of {batch_size}", batch_size=batch_size)
            tensor = warm_up.inputs[self.input.name]  # zeros: they are a valid image, and tokens that the table has
            tensor.data_type, tensor.zero_data = pb.DataType.Value(self.input.data_type), True
            tensor.dims.extend(self.input.shape)
        if self.default_model_filename:
            config.default_model_filename = self.default_model_filename
        if self.cuda_graph_batch_sizes:
            cuda = config.optimization.cuda
            cuda.graphs = cuda.output_copy_stream = True
            for batch_size in self.cuda_graph_batch_sizes:
                cuda.graph_spec.add(batch_size=batch_size)
        if self.response_cache:
            config.response_cache.enable = True
        for key, value in self.parameters.items():
            config.parameters[key].string_value = value
        return config

    def to_text(self) -> str:
        """The contents of `config.pbtxt`."""
        text: str = text_format.MessageToString(self.to_protobuf(), as_utf8=True)
        return text


def describe(
    variant: Variant,
    tower: Tower,
    engine: Engine,
    precision: Precision,
    *,
    file: str,
    max_batch_size: int,
    parameters: Mapping[str, str],
) -> TritonModel:
    """The contract with the gateway (tensor names, types and shapes of a variant's tower) for an engine's `file`."""
    name, data_type = INPUTS[tower]
    # The largest batch is what a GPU's memory and kernels are chosen by. A CPU gains nothing from it, and takes minutes
    # for L14-336: an engine for CPUs alone leaves it out, and so does pe-serve.
    warm_up = {1, max_batch_size} if engine.warms_up_full_batch else {1}
    graphs = {size for size in (*_CUDA_GRAPH_BATCH_SIZES, max_batch_size) if size <= max_batch_size}
    return TritonModel(
        name=variant.model_name(tower),
        backend=engine.backend,
        max_batch_size=max_batch_size,
        input=TensorSpec(name, data_type, variant.input_shape(tower)),
        output=TensorSpec(OUTPUT, "TYPE_FP32", (variant.embed_dim,)),
        parameters={**parameters, **engine.parameters_for(precision)},
        warm_up_batch_sizes=tuple(sorted(warm_up)),
        default_model_filename=file if engine.names_file else "",
        instances=engine.instances,
        device=engine.device,
        cuda_graph_batch_sizes=tuple(sorted(graphs)) if engine.cuda_graphs else (),
        response_cache=tower == "text",
    )
