"""What a search finds, and the protocol of the places where it searches."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deploy.bulk.rows import EmbeddingSpace


@dataclass(frozen=True, slots=True)
class Match:
    """A row that was found.

    Args:
        id: of the row.
        similarity: the cosine of its embedding and the query, from -1 to 1.
        columns: its further columns.
    """

    id: str
    similarity: float
    columns: Mapping[str, Any]


class Place(Protocol):
    """Embeddings that pe-embed wrote.

    Attributes:
        space: of the embeddings.
    """

    space: EmbeddingSpace

    def search(self, query: NDArray[np.float32], top: int, where: str | None) -> list[Match]:
        """Find the rows that are most similar to a query, most similar first.

        Args:
            query: float32 [D], unit length.
            top: how many rows to find, at most.
            where: an SQL expression that is true of the rows to search. None: all rows.

        Raises:
            UsageError: the expression is wrong.
            OutputError: the place cannot be read.
        """

    def close(self) -> None:
        """Release connections and files."""
