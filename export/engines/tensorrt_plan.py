"""ONNX graph -> TensorRT plan, and a plan run for its parity: all that needs an NVIDIA GPU, and nothing else.

Written against the Python API of TensorRT 10.13 and 11 (https://docs.nvidia.com/deeplearning/tensorrt, "Python API"):
every name that is used here is in the bindings of 10.13.3.9 and of 11.4.0.106.
The network is strongly typed: what precision a product is in stands in the graph. That is a flag in release 10, which
11 ignores, because there nothing else is left.
"""

import importlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.errors import GraphError, ParityError, TargetError
from export.parity import Array, Embed

_HOW = (
    "plans are built where they are served: on the serving machine, with the extra [gpu] in place of [export], "
    "or inside the serving image with --gpus all"
)


@dataclass(frozen=True)
class Target:
    """What a plan is tied to."""

    tensorrt: str
    """TensorRT's version."""
    compute_capability: str
    """The GPU's, without the dot: "90" is Hopper."""

    def __str__(self) -> str:
        return f"tensorrt {self.tensorrt} sm{self.compute_capability}"


def this_machine() -> Target:
    """The target of plans that are built here; TargetError that says what is missing."""
    import torch

    if not torch.cuda.is_available():
        raise TargetError(f"no NVIDIA GPU to build a TensorRT plan on: {_HOW}")
    major, minor = torch.cuda.get_device_capability()
    return Target(_tensorrt().__version__, f"{major}{minor}")


def build(
    graph: Path, plan: Path, input_shape: tuple[int, ...], max_batch_size: int, advance: Callable[[float], None]
) -> None:
    """Write `plan` for batches of 1 to `max_batch_size` inputs of `input_shape`; GraphError that quotes TensorRT.

    Kernel timings are kept between builds, in the user's cache. Ctrl-C ends a build at its next step.
    """
    trt = _tensorrt()
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph)):
        raise GraphError(f"TensorRT cannot read the graph: {parser.get_error(0).desc()}")
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    smallest, usual, largest = ((batch, *input_shape) for batch in (1, max(1, max_batch_size // 2), max_batch_size))
    profile.set_shape(network.get_input(0).name, smallest, usual, largest)
    config.add_optimization_profile(profile)
    timings = _timing_cache_file(this_machine())
    _use_timings(config, timings)
    stop = threading.Event()
    monitor = _monitor(trt, advance, stop)  # it must outlive the build, and the configuration does not keep it
    config.progress_monitor = monitor
    # In a thread, because TensorRT catches what its callbacks raise: an interrupt in the middle of one would be lost.
    with ThreadPoolExecutor(1) as thread:
        try:
            serialized = thread.submit(builder.build_serialized_network, network, config).result()
        finally:
            stop.set()  # of no effect on a build that is done
    if serialized is None:
        raise GraphError("TensorRT could not build a plan from the graph: its messages are above")
    plan.write_bytes(serialized)
    _keep_timings(config, timings)


@contextmanager
def plan_on_gpu(path: Path) -> Iterator[Embed]:
    """Run a plan on the GPU; ParityError if TensorRT refuses it."""
    import torch

    trt = _tensorrt()
    runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
    engine = runtime.deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        raise ParityError(f"TensorRT cannot load {path.name}: it was built for another version or GPU")
    context = engine.create_execution_context()
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    input_name, output_name = sorted(names, key=lambda name: engine.get_tensor_mode(name) != trt.TensorIOMode.INPUT)
    embed_dim = engine.get_tensor_shape(output_name)[-1]

    def embed(batch: Array) -> Array:
        inputs = torch.from_numpy(batch).cuda()
        outputs = torch.empty((len(batch), embed_dim), dtype=torch.float32, device="cuda")
        context.set_input_shape(input_name, tuple(inputs.shape))
        context.set_tensor_address(input_name, inputs.data_ptr())
        context.set_tensor_address(output_name, outputs.data_ptr())
        stream = torch.cuda.current_stream()
        if not context.execute_async_v3(stream.cuda_stream):
            raise ParityError(f"TensorRT could not run {path.name}")
        stream.synchronize()
        embeddings: Array = outputs.cpu().numpy()
        return embeddings

    yield embed


def _tensorrt() -> Any:
    """The library: imported by name, because it has no types and is not there where there is no GPU.

    Its bindings alone will do where the library itself is the system's, as in the serving image.
    """
    for name in ("tensorrt", "tensorrt_bindings"):
        with suppress(ImportError):
            return importlib.import_module(name)
    raise TargetError(f"the tensorrt package is not installed: {_HOW}")


def _timing_cache_file(target: Target) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "perception-encoder-server" / f"{str(target).replace(' ', '-')}.timings"


def _use_timings(config: Any, file: Path) -> None:
    """Begin with the timings of earlier builds; with none where TensorRT refuses them, as of another driver or GPU."""
    known = file.read_bytes() if file.is_file() else b""
    for content in (known, b""):
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, False):  # False: mismatches are refused
            return


def _keep_timings(config: Any, file: Path) -> None:
    cache = config.get_timing_cache()
    if cache is None:
        return
    partial = file.with_name(f"{file.name}.{os.getpid()}")
    with suppress(
        OSError
    ):  # a home that cannot be written to costs the next build its head start, and this one nothing
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(cache.serialize())
        partial.replace(file)


def _monitor(trt: Any, advance: Callable[[float], None], stop: threading.Event) -> Any:
    """TensorRT's own account of its phases, as one number: steps done of the outermost phase. Called by any thread."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self.steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            if steps := self.steps.get(phase_name):
                advance((step + 1) / steps)
            return not stop.is_set()  # False ends the build

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

    return Monitor()
