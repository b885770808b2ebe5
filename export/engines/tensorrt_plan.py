"""Build a TensorRT plan from an ONNX graph, and run a plan for the parity check."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from export.engines import tensorrt_build
from export.engines.tensorrt_compiler import Advance, ShapeRange
from export.engines.tensorrt_library import load_library
from export.errors import ParityError
from export.files import readable_size
from export.parity import Array, Embed


def build(trt: Any, graph: Path, plan: Path, inputs: Mapping[str, ShapeRange], tied_to: str, advance: Advance) -> None:
    """Compile `graph` and write the file `plan`. An interrupted or failed build leaves no file.

    Kernel timings are kept in the user's cache directory for later builds.

    Args:
        trt: TensorRT's Python module.
        inputs: for each input by name, the shapes that the plan accepts.
        tied_to: the library and the device. Builds for the same ones use each other's timings.
        advance: receives the finished fraction, from 0 to 1.

    Raises:
        GraphError: TensorRT cannot read or compile the graph.
    """
    timings = _cache_directory() / f"{'-'.join(tied_to.replace('/', ' ').split())}.timings"
    job = tensorrt_build.Job(trt.__name__, str(graph), inputs, str(plan), str(timings))
    tensorrt_build.build(job, advance)


@contextmanager
def plan_on_gpu(path: Path) -> Iterator[Embed]:
    """Open a plan on the GPU.

    Raises:
        ParityError: TensorRT cannot load or run the plan.
        TargetError: TensorRT is not installed.
    """
    import torch

    trt = load_library()
    runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
    engine = runtime.deserialize_cuda_engine(path.read_bytes())
    context = engine.create_execution_context() if engine is not None else None
    if context is None:
        raise ParityError(f"TensorRT cannot load {path.name}, and its reason is above. {_free_memory()}")
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    input_name, output_name = sorted(names, key=lambda name: engine.get_tensor_mode(name) != trt.TensorIOMode.INPUT)
    embed_dim = engine.get_tensor_shape(output_name)[-1]

    def embed(batch: Array) -> Array:
        try:
            inputs = torch.from_numpy(batch).cuda()
            outputs = torch.empty((len(batch), embed_dim), dtype=torch.float32, device="cuda")
        except torch.OutOfMemoryError as error:
            raise ParityError(f"there is too little GPU memory to run {path.name}. {_free_memory()}") from error
        context.set_input_shape(input_name, tuple(inputs.shape))
        context.set_tensor_address(input_name, inputs.data_ptr())
        context.set_tensor_address(output_name, outputs.data_ptr())
        stream = torch.cuda.current_stream()
        if not context.execute_async_v3(stream.cuda_stream):
            raise ParityError(f"TensorRT could not run {path.name}, and its reason is above. {_free_memory()}")
        stream.synchronize()
        embeddings: Array = outputs.cpu().numpy()
        return embeddings

    yield embed


def _free_memory() -> str:
    """Say how much of the GPU's memory is free, because other programs may have it."""
    import torch

    try:
        free, total = torch.cuda.mem_get_info()
    except RuntimeError as error:
        return f"The GPU's free memory is unknown: {str(error).splitlines()[0]}"
    return f"{readable_size(free)} of the GPU's {readable_size(total)} are free: nvidia-smi shows who has the rest"


def _cache_directory() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "perception-encoder-server"
