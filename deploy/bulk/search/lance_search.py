"""Search in a table of LanceDB."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import lancedb
import numpy as np
from numpy.typing import NDArray

from deploy.bulk.errors import OutputError, UsageError
from deploy.bulk.outputs import table_columns
from deploy.bulk.outputs.lance_table import lance_errors, parse, reason, space_of, table_names
from deploy.bulk.search.match import Match
from deploy.bulk.search.place import Place

# The index holds a byte for each number. So many times the rows are compared again by their whole embeddings.
_REFINE: Final = 10
# Parts of the index that are searched, at least. With a filter, more are searched until there are enough rows.
_PARTS: Final = 20


class LanceSearch:
    """See `Place`.

    Args:
        name: `lancedb:PATH#TABLE`.

    Raises:
        UsageError: there is no such table, or pe-embed did not make it.
    """

    def __init__(self, name: str) -> None:
        path, table = parse(name)
        self._shown = f"The table {table} in {path}"
        if "://" not in path and not Path(path).exists():
            raise UsageError(f"{path}: there is no such directory. Fill it with pe-embed --into {name}.")
        with lance_errors(UsageError, self._shown):
            database = lancedb.connect(path)
            if table not in (names := table_names(database)):
                tables = ", ".join(names) or "none"
                raise UsageError(f"{path} has no table {table}. Name one as lancedb:PATH#TABLE. Tables: {tables}.")
            self._table = database.open_table(table)
            space = space_of(self._table.schema)
        if space is None:
            raise UsageError(f"{self._shown} was not made by pe-embed, so its embeddings are unknown.")
        self.space = space
        self._names = [name for name in self._table.schema.names if name not in table_columns.OWN]

    def search(self, query: NDArray[np.float32], top: int, where: str | None) -> list[Match]:
        """See `Place`. The expression is DataFusion's SQL."""
        if where:
            check_filter(self._table, where, self._names)
        search: Any = self._table.search(query, vector_column_name="embedding")
        search = search.distance_type("cosine").minimum_nprobes(_PARTS).maximum_nprobes(0).refine_factor(_REFINE)
        # A row has either an error or an embedding, and the errors are read faster. The line's end ends a comment.
        condition = f"error IS NULL AND ({where}\n)" if where else "error IS NULL"
        search = search.where(condition, prefilter=True).select(["id", *self._names, "_distance"]).limit(top)
        with lance_errors(OutputError, self._shown):
            found = search.to_arrow().to_pylist()
        return [
            Match(row.pop("id"), 1 - row.pop("_distance"), {name: row[name] for name in self._names}) for row in found
        ]

    def close(self) -> None:
        """See `Place`."""


def check_filter(table: Any, where: str, names: Sequence[str]) -> None:
    """Evaluate an expression alone. A message about a longer expression would quote what the user did not write.

    Args:
        names: the columns that a user knows of.

    Raises:
        UsageError: it is wrong.
    """
    columns = ", ".join(names) or "none"
    try:
        table.search().where(where).select(["id"]).limit(1).to_arrow()
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"--where {where}: {reason(error)} Further columns: {columns}.") from None
    try:
        # LanceDB leaves out what follows a complete expression. In the place of an argument, it has to read all of it.
        table.search().where(f"coalesce({where}\n, false)").select(["id"]).limit(1).to_arrow()
    except (RuntimeError, ValueError):
        raise UsageError(f"--where {where}: the end is not part of the expression. Expected one expression.") from None


def open_place(name: str) -> Place:
    """See `deploy.bulk.search.place`."""
    return LanceSearch(name)
