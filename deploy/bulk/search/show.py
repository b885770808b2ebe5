"""Write what a search found, as a table or as JSON."""

import json
import math
from collections.abc import Sequence
from typing import Any, Final

from deploy.bulk.printable import printable
from deploy.bulk.rows import EmbeddingSpace
from deploy.bulk.search.match import Match

_LONGEST_CELL: Final = 60


def as_table(matches: Sequence[Match]) -> str:
    """One line for each match: rank, similarity, id, and further columns that are not all empty."""
    if not matches:
        return "Nothing matches."
    names = [name for name in matches[0].columns if any(match.columns[name] is not None for match in matches)]
    lines = [["rank", "similarity", "id", *map(printable, names)]]
    for rank, match in enumerate(matches, 1):
        cells = [_cell(match.columns[name]) for name in names]
        lines.append([str(rank), f"{match.similarity:.4f}", printable(match.id), *cells])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = (
        "  ".join(
            cell.rjust(width) if at < 2 else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
    return "\n".join(row.rstrip() for row in rows)


def as_json(query: dict[str, str], space: EmbeddingSpace, matches: Sequence[Match]) -> str:
    """An object with the query, the embedding space and the matches."""
    found = [
        {
            "rank": rank,
            "similarity": round(match.similarity, 6),
            "id": match.id,
            "columns": {name: _jsonable(value) for name, value in match.columns.items()},
        }
        for rank, match in enumerate(matches, 1)
    ]
    document = {"query": query, "embedding_space": space.name, "matches": found}
    return json.dumps(document, ensure_ascii=False, indent=2, default=str)


def _cell(value: Any) -> str:
    text = "" if value is None else printable(str(value))
    return text if len(text) <= _LONGEST_CELL else text[: _LONGEST_CELL - 3] + "..."


def _jsonable(value: Any) -> Any:
    """JSON has no numbers that are not finite."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
