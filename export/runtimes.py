"""What runs an artifact: each gives a function from one batch of inputs to its embeddings."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from export.errors import ParityError
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
    if engine != "onnx":
        return None
    import onnxruntime

    provider = _CUDA if _CUDA in onnxruntime.get_available_providers() else _CPU
    if provider == _CPU and precision == "bf16":  # docs/OperatorKernels.md: the CPU has no BF16 kernels
        return None
    return Runtime(f"onnxruntime {onnxruntime.__version__} {provider}", partial(onnxruntime_session, provider=provider))


@contextmanager
def onnxruntime_session(path: Path, provider: str = _CPU) -> Iterator[Embed]:
    """onnxruntime; ParityError if it cannot load or run the graph, or not with that provider."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors: it warns of every constant that it leaves unfolded
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


def torch_on_cpu(tower: Any) -> Embed:
    """The tower itself, in the precision that its weights have."""
    import torch

    def embed(batch: Array) -> Array:
        with torch.inference_mode():
            embeddings: Array = tower(torch.from_numpy(batch)).numpy()
        return embeddings

    return embed
