"""What runs an artifact: each gives a function from one batch of inputs to its embeddings."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from export.errors import ParityError
from export.parity import Array, Embed


@contextmanager
def onnxruntime_on_cpu(path: Path) -> Iterator[Embed]:
    """onnxruntime's CPU provider; ParityError if it cannot load or run the graph."""
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
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
