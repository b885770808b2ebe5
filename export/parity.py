"""Compare an artifact's embeddings with those of torch.

The reference is torch in FP32, with texts of the full context length. `parity.npz` beside an artifact holds the inputs
and torch's embeddings of them, so that `pe-export check` can repeat the comparison without torch and without the
weights. A text is compared at the full length, and at the shortest length that it fits.
"""

import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from export.errors import ParityError, RepositoryError

Array = npt.NDArray[Any]
Embeddings = npt.NDArray[np.float32]
Embed = Callable[[Array], Array]
"""Maps one batch of inputs [N, ...] to embeddings [N, D]."""

ANSWERS: Final = "parity.npz"

# The smallest cosine to torch's FP32 embedding that any sample may have, by the precision of the artifact.
MIN_COSINE: Final = {"fp32": 0.99999, "fp16": 0.999, "bf16": 0.999}


@dataclass(frozen=True)
class Parity:
    """The difference between an artifact's embeddings and torch's."""

    samples: int
    """Number of compared embeddings."""
    min_cosine: float
    """Smallest cosine of a pair of embeddings, at most 1."""
    max_abs_error: float
    """Largest absolute difference of a component."""


@dataclass(frozen=True)
class Answers:
    """Inputs [N, ...] and torch's FP32 embeddings of them [N, D]."""

    inputs: Array
    """Images uint8 [N, H, W, 3], or tokens int32 [N, L] of the context length L, padded with zeros."""
    expected: Embeddings
    token_lengths: tuple[int, ...] = ()
    """The lengths of `tokens` to compare at, ascending. The last one is L. Empty for images."""

    def parts(self) -> Iterator[tuple[Array, Embeddings]]:
        """Yield inputs of one shape with their embeddings: all inputs, then the texts that a shorter length suits best.

        A text suits the shortest length that leaves out only padding. Torch's embedding is always that of L tokens.
        """
        yield self.inputs, self.expected
        shortest = 0
        for length in self.token_lengths[:-1]:
            used = (self.inputs != 0).cumsum(axis=1).argmax(axis=1) + 1
            suited = (used > shortest) & (used <= length)
            if suited.any():
                yield np.ascontiguousarray(self.inputs[suited, :length]), self.expected[suited]
            shortest = length

    def write(self, directory: Path) -> Path:
        """Write `parity.npz` into a version directory, and return its path."""
        path = directory / ANSWERS
        lengths = np.array(self.token_lengths, np.int32)
        np.savez_compressed(path, inputs=self.inputs, expected=self.expected, token_lengths=lengths)
        return path

    @classmethod
    def read(cls, directory: Path) -> "Answers":
        """Read the answers of a version directory.

        Raises:
            RepositoryError: the file is missing, or this module did not write it.
        """
        path = directory / ANSWERS
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                return cls(stored["inputs"], stored["expected"], tuple(stored["token_lengths"].tolist()))
        except FileNotFoundError:
            raise RepositoryError(f"{directory} has no {ANSWERS}") from None
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise RepositoryError(f"{path} cannot be read: {error}") from error


def torch_reference(tower: Any) -> Embed:
    """Make a function that embeds with the tower in torch on the CPU, in the precision of its weights."""
    import torch

    def embed(batch: Array) -> Array:
        with torch.inference_mode():
            embeddings: Array = tower(torch.from_numpy(batch)).numpy()
        return embeddings

    return embed


def embed_all(embed: Embed, inputs: Array, advance: Callable[[float], None] = lambda _: None) -> Embeddings:
    """Embed all inputs in batches of several sizes. A graph whose batch axis is fixed fails.

    Args:
        inputs: image uint8 [N, H, W, 3] or tokens int32 [N, L].
        advance: receives the finished fraction, from 0 to 1.

    Returns:
        Embeddings, float32 [N, D].
    """
    # Large batches of images would need too much memory. A text needs a small fraction of an image's memory.
    largest = 4 if inputs.ndim == 4 else 32
    embeddings = []
    done = 0
    for batch in _batches(inputs, largest):
        embeddings.append(embed(batch))
        done += len(batch)
        advance(done / len(inputs))
    return np.concatenate(embeddings).astype(np.float32)


def measure(answers: Answers, embed: Embed, advance: Callable[[float], None] = lambda _: None) -> Parity:
    """Embed all parts of `answers`, and compare the embeddings with torch's.

    Args:
        advance: receives the finished fraction, from 0 to 1.

    Raises:
        ParityError: as for `compare`.
    """
    parts = list(answers.parts())
    total = sum(len(inputs) for inputs, _ in parts)
    actual: list[Embeddings] = []
    done = 0
    for inputs, _ in parts:
        actual.append(embed_all(embed, inputs, _part_of(advance, done / total, len(inputs) / total)))
        done += len(inputs)
    return compare(np.concatenate([expected for _, expected in parts]), np.concatenate(actual))


def compare(expected: Embeddings, actual: Embeddings) -> Parity:
    """Compare two arrays of embeddings, float32 [N, D].

    Raises:
        ParityError: the shapes differ, or embeddings of one of them are not finite and of unit length.
    """
    if expected.shape != actual.shape:
        raise ParityError(f"embeddings have shape {list(actual.shape)}, not {list(expected.shape)}")
    require_unit_length(expected, "torch's embeddings")
    require_unit_length(actual, "embeddings")
    products = np.einsum("nd,nd->n", expected.astype(np.float64), actual.astype(np.float64))
    cosines = products / _lengths(expected) / _lengths(actual)
    return Parity(len(expected), float(min(cosines.min(), 1.0)), float(np.abs(expected - actual).max()))


def require_unit_length(embeddings: Embeddings, name: str) -> None:
    """Refuse embeddings, float32 [N, D], that are not finite and of unit length.

    Args:
        name: what the error calls them.

    Raises:
        ParityError: one of them is not.
    """
    if not (np.isfinite(embeddings).all() and np.allclose(_lengths(embeddings), 1, atol=1e-3)):
        raise ParityError(f"{name} are not finite and of unit length")


def _lengths(embeddings: Embeddings) -> npt.NDArray[np.float64]:
    lengths: npt.NDArray[np.float64] = np.linalg.norm(embeddings.astype(np.float64), axis=1)
    return lengths


def require(parity: Parity, precision: str) -> None:
    """Enforce the tolerance of `precision`.

    Raises:
        ParityError: the smallest cosine is below it.
    """
    if not parity.min_cosine >= MIN_COSINE[precision]:  # also true for NaN
        raise ParityError(
            f"minimum cosine to torch FP32 is {parity.min_cosine:.6f} over {parity.samples} samples, "
            f"below {MIN_COSINE[precision]} for {precision}"
        )


def _part_of(advance: Callable[[float], None], begin: float, size: float) -> Callable[[float], None]:
    """Make a function that receives the finished fraction of a part, and reports that of the whole to `advance`."""
    return lambda fraction: advance(begin + fraction * size)


def _batches(inputs: Array, largest: int) -> Iterator[Array]:
    """Yield batches of 1, 2 and 3 inputs, then of `largest`."""
    start = 0
    for size in (1, 2, 3, *[largest] * len(inputs)):
        if start < len(inputs):
            yield inputs[start : start + size]
        start += size
