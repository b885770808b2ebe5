"""Engine `tensorrt`: TensorRT compiles the graph to a plan, on the kind of GPU that will serve the plan."""

from typing import Any, Final

from export.engines import tensorrt_plan
from export.engines.engine import BuildRequest, Engine, Runtime, set_instances
from export.errors import TargetError
from export.files import sha256_of
from export.graph.spec import Precision
from export.progress import Progress

# Batch sizes that Triton captures as CUDA graphs, besides the largest. Kernel launches take the largest part of the
# time in small batches. With dynamic batching, Triton captures only the listed sizes (tensorrt_backend,
# src/instance_state.cc).
_CUDA_GRAPH_BATCH_SIZES: Final = (1, 2, 4, 8)


class TensorRtEngine(Engine):
    """A plan. It is tied to TensorRT's version, the GPU's compute capability and the largest batch."""

    name = "tensorrt"
    backend = "tensorrt"
    precisions = ("fp16", "bf16", "fp32")
    form = "packed"
    warms_up_full_batch = True
    sources = ("export.engines.tensorrt_plan",)

    def target(self, max_batch_size: int) -> str:
        return f"{tensorrt_plan.this_machine()} batch {max_batch_size}"

    def build(self, request: BuildRequest, progress: Progress) -> tuple[Any, ...]:
        # The name contains the target, so that users can distinguish plans of several machines.
        name = f"{request.target.replace(' ', '-')}-{sha256_of(request.files[-1])[:12]}.plan"
        plan = request.output / name
        with progress.step(request.tower, "build", request.target) as advance:
            tensorrt_plan.build(request.graph, plan, request.input_shape, request.max_batch_size, advance)
        return (plan,)

    def runtime(self, precision: Precision) -> Runtime | None:
        try:
            target = tensorrt_plan.this_machine()
        except TargetError:
            return None
        return Runtime(str(target), tensorrt_plan.plan_on_gpu)

    def missing_runtime(self, precision: Precision) -> str:
        return "there is no GPU or no TensorRT here to run it: export on the machine that serves it"

    def configure(self, config: Any, precision: Precision, file: str) -> None:
        config.default_model_filename = file
        set_instances(config, 2, "KIND_GPU")  # One instance copies while the other computes.
        cuda = config.optimization.cuda
        cuda.graphs = cuda.output_copy_stream = True
        sizes = {*_CUDA_GRAPH_BATCH_SIZES, config.max_batch_size}
        for size in sorted(size for size in sizes if size <= config.max_batch_size):
            cuda.graph_spec.add(batch_size=size)
