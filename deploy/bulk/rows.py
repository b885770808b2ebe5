"""What `pe-embed` writes, for which run, and the protocol of the places where it writes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Value = str | int | float | bool | None
Dtype = Literal["float32", "float16"]


@dataclass(frozen=True, slots=True)
class Row:
    """One picture, text or video.

    Args:
        id: names it within its source: a path relative to the folder, a URL, or a value of the table's id column.
        embedding: float32 [D], unit length. None if it has an error.
        error: why it has no embedding. None if it has one.
        columns: further columns of its source, by which a search can filter. Every row of a run has the same names.
    """

    id: str
    embedding: NDArray[np.float32] | None
    error: str | None = None
    columns: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EmbeddingSpace:
    """Where embeddings can be compared: one variant with one set of weights.

    Args:
        name: what the gateway calls it in `X-Embedding-Space` and at `/info`.
        dimension: D, the length of an embedding.
    """

    name: str
    dimension: int


@dataclass(frozen=True, slots=True)
class Run:
    """What has to be the same when a run continues.

    Args:
        space: of the embeddings.
        dtype: in which embeddings are written.
        source: `Source.description`.
        shard: `3/16`, or `1/1` for all of the source.
    """

    space: EmbeddingSpace
    dtype: Dtype
    source: str
    shard: str


class Output(Protocol):
    """A place for rows. One row for each id: writing an id again replaces its row."""

    def finished(self) -> Collection[str]:
        """Return the ids that have an embedding, so that a killed run continues where it stopped."""

    def failed(self) -> Collection[str]:
        """Return the ids of the rows with an error, which are tried again only if the user asks for it. An output that
        keeps no such rows returns none, and they are tried in every run."""

    def write(self, rows: Sequence[Row]) -> None:
        """Write rows. They are on disk, or committed, when this returns."""

    def remove_others(self, ids: Collection[str]) -> int:
        """Remove the rows with other ids. Return how many these were."""

    def close(self) -> None:
        """Finish: files get their final names, and a database its index."""
