"""Build a TensorRT plan from an ONNX graph, and run a plan for the parity check. Both need an NVIDIA GPU.

This module uses the Python API of TensorRT 10.13 and 11 (https://docs.nvidia.com/deeplearning/tensorrt, "Python API").
Every name used here exists in the bindings of 10.13.3.9 and 11.4.0.106.

The network is strongly typed: the graph decides the precision of every product. Release 10 needs a flag for strong
typing. Release 11 ignores the flag, because there every network is strongly typed.
"""

import importlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
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
    """The TensorRT version and the kind of GPU to which a plan is tied."""

    tensorrt: str
    """Version of TensorRT."""
    compute_capability: str
    """Compute capability of the GPU, without the dot: "90" is Hopper."""

    def __str__(self) -> str:
        return f"tensorrt {self.tensorrt} sm{self.compute_capability}"


def this_machine() -> Target:
    """Return the target of plans that are built on this machine, for torch's current GPU.

    Raises:
        TargetError: this machine has no GPU or no TensorRT.
    """
    import torch

    if not torch.cuda.is_available():
        raise TargetError(f"no NVIDIA GPU to build a TensorRT plan on: {_HOW}")
    major, minor = torch.cuda.get_device_capability()
    return Target(_tensorrt().__version__, f"{major}{minor}")


def build(
    graph: Path,
    plan: Path,
    input_shapes: Sequence[tuple[int, ...]],
    max_batch_size: int,
    advance: Callable[[float], None],
) -> None:
    """Compile `graph` and write the file `plan`.

    Kernel timings are kept in the user's cache directory for later builds. Ctrl-C ends a build at its next step.

    Args:
        input_shapes: shapes of one input without the batch axis, from the smallest to the largest. The plan accepts
            all shapes between the two. TensorRT chooses kernels for the largest shape, which takes the longest.
        max_batch_size: the plan accepts batches of 1 to this size.
        advance: receives the finished fraction of the current phase, from 0 to 1, on any thread.

    Raises:
        GraphError: TensorRT cannot read or compile the graph.
        TargetError: this machine has no GPU or no TensorRT.
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
    smallest, largest = input_shapes[0], input_shapes[-1]
    usual_batch = max(1, max_batch_size // 2)
    profile.set_shape(network.get_input(0).name, (1, *smallest), (usual_batch, *largest), (max_batch_size, *largest))
    config.add_optimization_profile(profile)
    timings = _timing_cache_file(this_machine())
    _use_timings(config, timings)
    stop = threading.Event()
    monitor = _monitor(trt, advance, stop)  # The configuration keeps no reference to it.
    config.progress_monitor = monitor
    # TensorRT discards exceptions that its callbacks raise, and with them an interrupt. So the build runs in a thread.
    with ThreadPoolExecutor(1) as thread:
        try:
            serialized = thread.submit(builder.build_serialized_network, network, config).result()
        finally:
            stop.set()  # This has no effect on a finished build.
    if serialized is None:
        raise GraphError("TensorRT could not build a plan from the graph: its messages are above")
    plan.write_bytes(serialized)
    _keep_timings(config, timings)


@contextmanager
def plan_on_gpu(path: Path) -> Iterator[Embed]:
    """Open a plan on the GPU.

    Raises:
        ParityError: TensorRT cannot load or run the plan.
        TargetError: TensorRT is not installed.
    """
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
    """Import TensorRT. The import is by name, because the library has no types and most machines do not have it.

    The serving image has the library in the system and only the bindings as a Python package.
    """
    for name in ("tensorrt", "tensorrt_bindings"):
        with suppress(ImportError):
            return importlib.import_module(name)
    raise TargetError(f"the tensorrt package is not installed: {_HOW}")


def _timing_cache_file(target: Target) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "perception-encoder-server" / f"{str(target).replace(' ', '-')}.timings"


def _use_timings(config: Any, file: Path) -> None:
    """Start from the timings of earlier builds. Start without if TensorRT rejects them (another driver or GPU)."""
    known = file.read_bytes() if file.is_file() else b""
    for content in (known, b""):
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, False):  # False rejects timings of another device.
            return


def _keep_timings(config: Any, file: Path) -> None:
    cache = config.get_timing_cache()
    if cache is None:
        return
    partial = file.with_name(f"{file.name}.{os.getpid()}")
    with suppress(OSError):  # Without a writable cache directory, only the next build is slower.
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(cache.serialize())
        partial.replace(file)


def _monitor(trt: Any, advance: Callable[[float], None], stop: threading.Event) -> Any:
    """Report the finished fraction of TensorRT's outermost phase to `advance`, and end the build when `stop` is set.

    TensorRT calls the monitor on any thread.
    """

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
            return not stop.is_set()  # False ends the build.

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

    return Monitor()
