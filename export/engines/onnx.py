"""Engine `onnx`: Triton's onnxruntime backend runs the graph without a build step, on a GPU or on the CPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from export.engines.engine import Engine, Runtime, set_instances, set_parameters
from export.errors import ParityError
from export.gpu_memory import GpuMemory
from export.graph.spec import Precision
from export.parity import Array, Embed

_CUDA: Final = "CUDAExecutionProvider"
_CPU: Final = "CPUExecutionProvider"


class OnnxEngine(Engine):
    """`model.onnx` with onnxruntime's own operators."""

    name = "onnx"
    backend = "onnxruntime"
    precisions = ("fp32", "fp16", "bf16")
    form = "fused"
    warms_up_full_batch = True

    def runtime(self, precision: Precision) -> Runtime | None:
        import onnxruntime

        provider = _CUDA if _CUDA in onnxruntime.get_available_providers() else _CPU
        if provider == _CPU and precision == "bf16":  # onnxruntime's docs/OperatorKernels.md lists no BF16 on the CPU.
            return None
        return Runtime(
            f"onnxruntime {onnxruntime.__version__} {provider}", partial(onnxruntime_session, provider=provider)
        )

    def missing_runtime(self, precision: Precision) -> str:
        return (
            f"onnxruntime has no {precision} on a CPU: export on the GPU that serves it, take another, "
            "or publish it unproven with --unverified"
        )

    def configure(
        self,
        config: Any,
        precision: Precision,
        file: str,
        input_shapes: tuple[tuple[int, ...], ...],
        memory: GpuMemory,
    ) -> None:
        # Without an instance group Triton starts two instances on a CPU. Two slowed each other down when measured.
        set_instances(config, 1, "KIND_AUTO")
        # For the CUDA provider; ignored on a CPU. Triton's C++ backend takes both only as parameters of the model. It
        # also documents `gpu_execution_accelerator { name: "cuda" }`, but sets both to their defaults after reading it
        # (onnxruntime_backend 00fd3e8, June 2026: README.md, src/onnxruntime.cc, `ModelState::LoadModel`).
        # 1 is kSameAsRequested. The default doubles the arena each time it grows. Growth by what is requested needs the
        # largest batch first, which the warmup runs.
        set_parameters(config, gpu_mem_limit=str(memory.limit), arena_extend_strategy="1")


@contextmanager
def onnxruntime_session(path: Path, provider: str = _CPU) -> Iterator[Embed]:
    """Open a graph in onnxruntime.

    Raises:
        ParityError: onnxruntime cannot load or run the graph, or does not use `provider`.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # Errors only. onnxruntime warns of every constant that it does not fold.
    options.enable_cpu_mem_arena = False  # Slightly slower, but freed memory returns to the system.
    try:
        session = onnxruntime.InferenceSession(path, options, providers=[provider])
        if session.get_providers()[0] != provider:
            raise ParityError(f"onnxruntime does not use {provider} here")
        name = session.get_inputs()[0].name

        def embed(batch: Array) -> Array:
            embeddings: Array = session.run(None, {name: batch})[0]
            return embeddings

        yield embed
    except ParityError:
        raise
    except Exception as error:
        if type(error).__module__.split(".")[0] != "onnxruntime":  # Its exceptions share no base class.
            raise
        raise ParityError(f"onnxruntime cannot run {path.name}: {str(error).splitlines()[0]}") from error
