"""What a search finds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


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
