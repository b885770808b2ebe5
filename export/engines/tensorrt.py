"""Engine `tensorrt`: TensorRT compiles the graph to a plan, on the kind of GPU that will serve the plan."""

import re
from pathlib import Path
from typing import Any, Final

from export import preflight
from export.engines import tensorrt_build, tensorrt_plan
from export.engines.engine import BuildRequest, Engine, Runtime, set_instances
from export.engines.tensorrt_compiler import profile_shapes
from export.engines.tensorrt_library import WHERE_TO_BUILD, library_version, load_library
from export.errors import TargetError
from export.files import sha256_of
from export.gpu_memory import GpuMemory
from export.graph.spec import Precision
from export.progress import Progress

# Batch sizes that Triton captures as CUDA graphs, besides the largest. Kernel launches take the largest part of the
# time in small batches. With dynamic batching, Triton captures only the listed sizes, and of a dynamic axis only the
# listed lengths (tensorrt_backend, src/instance_state.cc).
_CUDA_GRAPH_BATCH_SIZES: Final = (1, 2, 4, 8)


class TensorRtEngine(Engine):
    """A plan. It is tied to TensorRT's version, the GPU and the largest batch."""

    name = "tensorrt"
    backend = "tensorrt"
    precisions = ("fp16", "bf16", "fp32")
    form = "packed"
    warms_up_full_batch = True
    sources = (
        "export.engines.tensorrt_build",
        "export.engines.tensorrt_compiler",
        "export.engines.tensorrt_kernels",
        "export.engines.tensorrt_plan",
    )

    def target(self, max_batch_size: int) -> str:
        gpu = _gpu()
        version = library_version(load_library())
        # `preflight` reads this.
        return f"tensorrt {version} sm{gpu.compute_capability} batch {max_batch_size} on {gpu}"

    def build(self, request: BuildRequest, progress: Progress) -> tuple[Path, ...]:
        # The name contains what Triton requires of a plan's machine, so that users can distinguish several plans.
        required = request.target.partition(" on ")[0]
        name = f"{required.replace(' ', '-')}-{sha256_of(request.files[-1])[:12]}.plan"
        plan = request.output / name
        shapes = profile_shapes(request.input_shapes, request.max_batch_size)
        tied_to = re.sub(r" batch \d+", "", request.target)
        with progress.step(request.tower, "build", request.target) as advance:
            tensorrt_plan.build(load_library(), request.graph, plan, {request.input_name: shapes}, tied_to, advance)
        return plan, tensorrt_build.kernels_file(plan)

    def runtime(self, precision: Precision) -> Runtime | None:
        try:
            description = f"tensorrt {library_version(load_library())} on {_gpu()}"
        except TargetError:
            return None
        return Runtime(description, tensorrt_plan.plan_on_gpu)

    def missing_runtime(self, precision: Precision) -> str:
        return "there is no GPU or no TensorRT here to run it: export on the machine that serves it"

    def configure(
        self,
        config: Any,
        precision: Precision,
        file: str,
        input_shapes: tuple[tuple[int, ...], ...],
        memory: GpuMemory,
    ) -> None:
        config.default_model_filename = file
        set_instances(config, 2, "KIND_GPU")  # One instance copies while the other computes.
        cuda = config.optimization.cuda
        cuda.graphs = cuda.output_copy_stream = True
        sizes = {*_CUDA_GRAPH_BATCH_SIZES, config.max_batch_size}
        for size in sorted(size for size in sizes if size <= config.max_batch_size):
            for shape in input_shapes:
                cuda.graph_spec.add(batch_size=size).input[config.input[0].name].dim.extend(shape)


def _gpu() -> preflight.Gpu:
    """Return torch's current GPU.

    Raises:
        TargetError: this process cannot use a GPU.
    """
    import torch

    if not torch.cuda.is_available():
        raise TargetError(
            f"torch cannot use an NVIDIA GPU, on which a TensorRT plan is built. {_why_no_gpu()} {WHERE_TO_BUILD}"
        )
    current, gpus = torch.cuda.current_device(), preflight.gpus()
    if current >= len(gpus):
        raise TargetError(f"the NVIDIA driver does not describe GPU {current}, which torch uses: see nvidia-smi")
    return gpus[current]


def _why_no_gpu() -> str:
    """Say which versions of CUDA the driver and torch have, and torch's own reason."""
    import torch

    driver = preflight.driver_cuda_version()
    drivers = f"The driver supports CUDA {driver}" if driver else "There is no NVIDIA driver"
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
        reason = "no GPU is visible"
    except (RuntimeError, AssertionError) as error:  # AssertionError: a build without CUDA.
        reason = str(error).split(". ")[0].strip()
    return f"{drivers}, torch has CUDA {torch.version.cuda or 'not at all'}, and torch says: {reason}."
