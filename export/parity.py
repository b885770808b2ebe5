"""Proof that an artifact embeds as the checkpoint does, as figures and as the answers that anyone can check again.

The reference is torch in FP32; `parity.npz` beside an artifact holds the inputs and torch's embeddings of them, so that
`pe-export check` needs neither torch nor the weights.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export.errors import ParityError, RepositoryError

Array = npt.NDArray[Any]
Embeddings = npt.NDArray[np.float32]
Embed = Callable[[Array], Array]
"""One batch of inputs -> its embeddings [N, D]."""

ANSWERS = "parity.npz"

# The least cosine with torch's FP32 embedding that any sample may have, by the precision of the graph.
MIN_COSINE = {"fp32": 0.99999, "fp16": 0.999, "bf16": 0.999}


@dataclass(frozen=True)
class Parity:
    """How far an artifact's embeddings are from torch's, over all samples and components."""

    samples: int
    min_cosine: float
    max_abs_error: float


@dataclass(frozen=True)
class Answers:
    """Inputs [N, ...] and torch's FP32 embeddings of them [N, D]."""

    inputs: Array
    expected: Embeddings

    def write(self, directory: Path) -> Path:
        path = directory / ANSWERS
        np.savez_compressed(path, inputs=self.inputs, expected=self.expected)
        return path

    @classmethod
    def read(cls, directory: Path) -> "Answers":
        """RepositoryError if they are not there, or not what this module wrote."""
        path = directory / ANSWERS
        try:
            with np.load(path, allow_pickle=False) as stored:
                return cls(stored["inputs"], stored["expected"])
        except FileNotFoundError:
            raise RepositoryError(f"{directory} has no {ANSWERS}") from None
        except (ValueError, KeyError, OSError, EOFError) as error:
            raise RepositoryError(f"{path} cannot be read: {error}") from error


def embed_all(embed: Embed, inputs: Array, advance: Callable[[float], None] = lambda _: None) -> Embeddings:
    """Embeddings [N, D] of all inputs, in batches of several sizes: a graph that forgot its batch axis is found out.

    `advance` is told what part is done.
    """
    largest = 4 if inputs.ndim == 4 else 32  # images; a text costs a small part of one
    embeddings = []
    done = 0
    for batch in _batches(inputs, largest):
        embeddings.append(embed(batch))
        done += len(batch)
        advance(done / len(inputs))
    return np.concatenate(embeddings).astype(np.float32)


def compare(expected: Embeddings, actual: Embeddings) -> Parity:
    """Figures over two [N, D] arrays; ParityError if `actual` is not finite and of unit length."""
    if expected.shape != actual.shape:
        raise ParityError(f"embeddings have shape {list(actual.shape)}, not {list(expected.shape)}")
    lengths = np.linalg.norm(actual.astype(np.float64), axis=1)
    if not (np.isfinite(actual).all() and np.allclose(lengths, 1, atol=1e-3)):
        raise ParityError("embeddings are not finite and of unit length")
    products = np.einsum("nd,nd->n", expected.astype(np.float64), actual.astype(np.float64))
    cosines = products / lengths / np.linalg.norm(expected.astype(np.float64), axis=1)
    return Parity(len(expected), float(min(cosines.min(), 1.0)), float(np.abs(expected - actual).max()))


def require(parity: Parity, precision: str) -> None:
    """ParityError if the figures miss the tolerance of `precision`."""
    if parity.min_cosine < MIN_COSINE[precision]:
        raise ParityError(
            f"minimum cosine to torch FP32 is {parity.min_cosine:.6f} over {parity.samples} samples, "
            f"below {MIN_COSINE[precision]} for {precision}"
        )


def _batches(inputs: Array, largest: int) -> Iterator[Array]:
    """Batches of 1, 2 and 3, then of `largest`: no size is special, and memory stays bounded."""
    start = 0
    for size in (1, 2, 3, *[largest] * len(inputs)):
        if start < len(inputs):
            yield inputs[start : start + size]
        start += size
