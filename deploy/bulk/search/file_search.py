"""Search in a file of pe-embed: every embedding is compared, and no more than a batch of them is in memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from deploy.bulk.errors import OutputError, UsageError
from deploy.bulk.outputs import table_columns
from deploy.bulk.outputs.npy import ROW
from deploy.bulk.rows import EmbeddingSpace
from deploy.bulk.search.lance_search import check_filter
from deploy.bulk.search.match import Match
from deploy.bulk.search.place import Place

_ROWS_AT_ONCE: Final = 8192
_NUMBER: Final = "_number"


class FileSearch:
    """See `Place`.

    Args:
        name: `FILE.parquet`, or `FILE.npy` with `FILE.ids.parquet` beside it.

    Raises:
        UsageError: there is no such file, or pe-embed did not write it.
    """

    def __init__(self, name: str) -> None:
        self._path = Path(name)
        self._array: Any = None
        index = self._path
        if not self._path.exists():
            unfinished = self._path.with_name(self._path.name + ".parts").exists()
            advice = (
                "pe-embed has not finished it: run the same command again." if unfinished else "There is no such file."
            )
            raise UsageError(f"{name}: {advice}")
        try:
            if self._path.suffix == ".npy":
                index = self._path.with_name(f"{self._path.stem}.ids.parquet")
                self._array = np.load(self._path, mmap_mode="r", allow_pickle=False)
            self._file = pq.ParquetFile(index)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise UsageError(f"{index} cannot be read: {getattr(error, 'strerror', None) or error}") from None
        schema = self._file.schema_arrow
        space = (schema.metadata or {}).get(b"embedding_space")
        if space is None or not {"id", "error"} <= {*schema.names}:
            raise UsageError(f"{name} was not written by pe-embed, so its embeddings are unknown.")
        dimension = schema.field("embedding").type.list_size if self._array is None else self._array.shape[1]
        self.space = EmbeddingSpace(space.decode(), dimension)
        own = table_columns.OWN if self._array is None else (*table_columns.OWN, ROW)
        self._names = [column for column in schema.names if column not in own]

    def search(self, query: NDArray[np.float32], top: int, where: str | None) -> list[Match]:
        """See `Place`. The expression is DataFusion's SQL, as in LanceDB."""
        try:
            similarities = np.concatenate([np.empty(0, np.float32), *self._similarities(query)])
            columns = self._file.read(columns=["id", *self._names])
        except (OSError, pa.ArrowException) as error:
            raise OutputError(f"{self._path} cannot be read: {error}") from None
        if where:
            searched = self._matching(columns, where)
            similarities[~searched] = np.nan
        count = min(top, int(np.count_nonzero(~np.isnan(similarities))))
        best = np.argsort(np.where(np.isnan(similarities), np.inf, -similarities), kind="stable")[:count]
        return [
            Match(row.pop("id"), float(similarities[number]), row)
            for number, row in zip(best, columns.take(pa.array(best)).to_pylist(), strict=True)
        ]

    def close(self) -> None:
        """See `Place`."""
        self._file.close()

    def _similarities(self, query: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """For each row the cosine, float32. Not a number for a row without an embedding."""
        column = "embedding" if self._array is None else ROW
        for batch in self._file.iter_batches(_ROWS_AT_ONCE, columns=[column]):
            values = batch.column(0)
            there = values.is_valid().to_numpy(zero_copy_only=False)
            found = np.full(len(values), np.nan, np.float32)
            if there.any():
                if self._array is None:
                    rows = values.drop_null().flatten().to_numpy().reshape(-1, self.space.dimension)
                else:
                    rows = self._array[values.drop_null().to_numpy()]
                found[there] = rows.astype(np.float32) @ query
            yield found

    def _matching(self, columns: Any, where: str) -> NDArray[np.bool_]:
        """Which rows the expression is true of, bool [N]. LanceDB evaluates it, on a table in memory."""
        numbered = columns.append_column(_NUMBER, pa.array(range(columns.num_rows), pa.int64()))
        if not columns.num_rows:
            return np.zeros(0, bool)
        table = lancedb.connect("memory://").create_table("columns", numbered)
        check_filter(table, where, self._names)
        found = table.search().where(where).select([_NUMBER]).to_arrow()
        mask = np.zeros(columns.num_rows, bool)
        mask[found.column(_NUMBER).to_numpy()] = True
        return mask


def open_place(name: str) -> Place:
    """See `deploy.bulk.search.place`."""
    return FileSearch(name)
