"""What runs an artifact: each gives a function from one batch of inputs to its embeddings."""

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from export.engines import tensorrt_plan
from export.errors import ParityError, TargetError
from export.parity import Array, Embed

_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"


@dataclass(frozen=True)
class Runtime:
    """A way to run an artifact here."""

    description: str
    """Library, version and device, for the certificate."""
    load: Callable[[Path], AbstractContextManager[Embed]]


def find(engine: str, precision: str) -> Runtime | None:
    """What can run an engine's artifact of that precision on this machine; None if nothing can."""
    return _FINDERS[engine](precision)


def _find_onnxruntime(precision: str) -> Runtime | None:
    import onnxruntime

    provider = _CUDA if _CUDA in onnxruntime.get_available_providers() else _CPU
    if provider == _CPU and precision == "bf16":  # docs/OperatorKernels.md: the CPU has no BF16 kernels
        return None
    return Runtime(f"onnxruntime {onnxruntime.__version__} {provider}", partial(onnxruntime_session, provider=provider))


def _find_openvino(precision: str) -> Runtime | None:
    try:
        openvino = importlib.import_module("openvino")
    except ImportError:
        return None
    capable = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "bf16" and not capable:  # it would run in FP32, and prove nothing
        return None
    return Runtime(f"openvino {openvino.__version__} CPU {precision}", partial(openvino_model, precision=precision))


def way_out(engine: str, precision: str) -> str:
    """What to do where `find` has nothing to offer."""
    unproven = "or publish it unproven with --unverified"
    if engine == "onnx":  # docs/OperatorKernels.md, as in `_find_onnxruntime`
        return f"onnxruntime has no {precision} on a CPU: export on the GPU that serves it, take another, {unproven}"
    if importlib.util.find_spec("openvino") is None:
        return f"the openvino package is not installed: install the extra [export], {unproven}"
    return f"this CPU has no {precision}: export on one that has (AMX), take --precision fp32, {unproven}"


@contextmanager
def openvino_model(path: Path, precision: str) -> Iterator[Embed]:
    """OpenVINO on the CPU, in the precision of its hint; ParityError if it cannot load or run the graph."""
    openvino = importlib.import_module("openvino")
    hint = {"bf16": "bf16", "fp32": "f32"}[precision]
    try:
        model = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": hint})

        def embed(batch: Array) -> Array:
            embeddings: Array = model([batch])[0]
            return embeddings

        yield embed
    except RuntimeError as error:  # what its bindings raise for everything
        raise ParityError(f"OpenVINO cannot run {path.name}: {str(error).splitlines()[0]}") from error


@contextmanager
def onnxruntime_session(path: Path, provider: str = _CPU) -> Iterator[Embed]:
    """onnxruntime; ParityError if it cannot load or run the graph, or not with that provider."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors: it warns of every constant that it leaves unfolded
    options.enable_cpu_mem_arena = False  # a little slower, and gives memory back
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
        if type(error).__module__.split(".")[0] != "onnxruntime":  # its own classes share no base but Exception
            raise
        raise ParityError(f"onnxruntime cannot run {path.name}: {str(error).splitlines()[0]}") from error


def _find_tensorrt(_: str) -> Runtime | None:
    try:
        target = tensorrt_plan.this_machine()
    except TargetError:
        return None
    return Runtime(str(target), tensorrt_plan.plan_on_gpu)


_FINDERS: Mapping[str, Callable[[str], Runtime | None]] = {
    "onnx": _find_onnxruntime,
    "openvino": _find_openvino,
    "tensorrt": _find_tensorrt,
}


def torch_on_cpu(tower: Any) -> Embed:
    """The tower itself, in the precision that its weights have."""
    import torch

    def embed(batch: Array) -> Array:
        with torch.inference_mode():
            embeddings: Array = tower(torch.from_numpy(batch)).numpy()
        return embeddings

    return embed
