"""A table of LanceDB, a vector database in a directory: `--into lancedb:PATH`, or `lancedb:PATH#TABLE`."""

import contextlib
import re
from collections.abc import Collection, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import BTree, IvfSq

from deploy.bulk.errors import OutputError, UsageError
from deploy.bulk.outputs import table_columns
from deploy.bulk.outputs.arrow_columns import own_columns
from deploy.bulk.outputs.table_columns import Kind
from deploy.bulk.rows import EmbeddingSpace, Output, Row, Run

TABLE: Final = "embeddings"
_SCHEME: Final = "lancedb:"
_SPACE: Final = b"embedding_space"
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_RESERVED: Final = ("_distance", "_rowid", "_rowaddr", "_score", "_relevance_score")
_LONGEST_NAME: Final = 200
_TYPES: Final[dict[Kind, Any]] = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64(), "text": pa.string()}
# With fewer rows, comparing with all of them takes less than 0.1 s.
_ROWS_FOR_INDEX: Final = 5000
# Compacted files replace the files of the batches. A running search may still read the old files, so they stay so long.
_KEEP_OLD: Final = timedelta(minutes=10)
# Each write adds a file, and a list of all files. With thousands of them, a write takes seconds.
_WRITES_FOR_COMPACTION: Final = 500
_IDS_AT_ONCE: Final = 1000


class LanceTable:
    """Rows in a table of LanceDB. See `Output`.

    Args:
        destination: `lancedb:PATH#TABLE`.
        run: its embeddings.
        rows_for_index: the number of rows from which `close` makes an index.
        writes_for_compaction: the number of writes after which their files are joined.

    Raises:
        UsageError: there is a table of other embeddings, or the place cannot be written.
    """

    def __init__(
        self,
        destination: str,
        run: Run,
        *,
        rows_for_index: int = _ROWS_FOR_INDEX,
        writes_for_compaction: int = _WRITES_FOR_COMPACTION,
    ) -> None:
        path, name = parse(destination)
        self._run = run
        self._rows_for_index = rows_for_index
        self._writes_for_compaction = writes_for_compaction
        self._writes = 0
        self._shown = f"The table {name} in {path}"
        with lance_errors(UsageError, self._shown):
            database = lancedb.connect(path)
            if name in table_names(database):
                self._table = database.open_table(name)
                self._check()
            else:
                # Another shard may make it at the same time.
                self._table = database.create_table(name, schema=self._schema(), exist_ok=True)
                self._check()

    def finished(self) -> Collection[str]:
        """See `Output`."""
        return self._ids("error IS NULL")

    def failed(self) -> Collection[str]:
        """See `Output`."""
        return self._ids("error IS NOT NULL")

    def write(self, rows: Sequence[Row]) -> None:
        """See `Output`.

        Raises:
            OutputError: they cannot be written, or a value does not fit into its column.
        """
        if not rows:
            return
        rows = table_columns.last_of_each_id(rows)
        table_columns.check_ids(rows)
        table_columns.check_names({name for row in rows for name in row.columns}, _RESERVED, _LONGEST_NAME)
        with lance_errors(OutputError, self._shown):
            if missing := table_columns.new_columns(rows, self._kinds()):
                self._table.add_columns(pa.schema([(name, _TYPES[kind]) for name, kind in missing.items()]))
            merge = self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            # LanceDB calls a missing vector a bad one, and "null" leaves it missing.
            merge.execute(self._to_arrow(rows), on_bad_vectors="null")
        self._writes += 1
        if self._writes % self._writes_for_compaction == 0:
            # The rows are committed. If another shard commits meanwhile, this fails, and is left to the next time.
            with contextlib.suppress(OSError, RuntimeError):
                self._table.optimize(cleanup_older_than=_KEEP_OLD)

    def remove_others(self, ids: Collection[str]) -> int:
        """See `Output`."""
        gone = sorted(set(self._ids(None)) - set(ids))
        with lance_errors(OutputError, self._shown):
            for start in range(0, len(gone), _IDS_AT_ONCE):
                listed = ", ".join(_literal(item_id) for item_id in gone[start : start + _IDS_AT_ONCE])
                self._table.delete(f"id IN ({listed})")
        return len(gone)

    def close(self) -> None:
        """Join small files, and make an index if there are enough rows. A shard leaves both to the last run, without
        --shard.

        Raises:
            OutputError: the disk is full, or another process changes the table.
        """
        if self._run.shard != "1/1":
            return
        with lance_errors(OutputError, self._shown):
            indexed = {column for index in self._table.list_indices() for column in index.columns}
            embedded = self._table.count_rows("error IS NULL")
            if "embedding" not in indexed and embedded >= self._rows_for_index:
                self._table.create_index("embedding", config=IvfSq(distance_type="cosine"))
            if "id" not in indexed and embedded >= self._rows_for_index:
                self._table.create_index("id", config=BTree())
            # Also adds new rows to the indices.
            self._table.optimize(cleanup_older_than=_KEEP_OLD)

    def _schema(self) -> Any:
        embedding = pa.list_(pa.from_numpy_dtype(np.dtype(self._run.dtype)), self._run.space.dimension)
        fields = [pa.field("id", pa.string(), nullable=False), ("embedding", embedding), ("error", pa.string())]
        return pa.schema(fields, {_SPACE: self._run.space.name.encode()})

    def _check(self) -> None:
        schema = self._table.schema
        table_columns.check_space(self._shown, space_of(schema), self._run.space)
        if (found := str(np.dtype(schema.field("embedding").type.value_type.to_pandas_dtype()))) != self._run.dtype:
            raise UsageError(
                f"{self._shown} holds embeddings in {found}, and this run makes them in {self._run.dtype}. Give "
                f"--dtype {found}, or name another table."
            )

    def _kinds(self) -> dict[str, Kind | None]:
        """The kinds of the further columns."""
        by_type = {kind: name for name, kind in _TYPES.items()}
        return {
            field.name: by_type.get(field.type) for field in self._table.schema if field.name not in table_columns.OWN
        }

    def _ids(self, where: str | None) -> set[str]:
        with lance_errors(OutputError, self._shown):
            query = self._table.search().select(["id"])
            batches = (query.where(where) if where else query).to_batches()
            return {item_id for batch in batches for item_id in batch.column("id").to_pylist()}

    def _to_arrow(self, rows: Sequence[Row]) -> Any:
        """The rows as an Arrow table with all columns of the table."""
        schema = self._table.schema
        columns = own_columns(rows, self._run)
        for name, kind in self._kinds().items():
            values = [table_columns.fitted(row.columns.get(name), kind) for row in rows]
            columns[name] = pa.array(values, schema.field(name).type)
        return pa.table([columns[name] for name in schema.names], schema=schema)


def open_output(destination: str, run: Run) -> Output:
    """See `Opener`."""
    return LanceTable(destination, run)


def parse(destination: str) -> tuple[str, str]:
    """Divide `lancedb:PATH#TABLE` into the path and the table's name.

    Raises:
        UsageError: there is no path, or the table's name is odd.
    """
    path, _, name = destination.removeprefix(_SCHEME).partition("#")
    if not path:
        raise UsageError(f"{destination}: the directory is missing. Expected lancedb:PATH or lancedb:PATH#TABLE.")
    if not _NAME.fullmatch(name or TABLE):
        raise UsageError(
            f"{destination}: {name!r} is no name of a table. Expected up to 100 letters, digits, `_`, `-` and `.`."
        )
    if "://" not in path and Path(path).exists() and not Path(path).is_dir():
        raise UsageError(f"{path} is a file. LanceDB keeps its tables in a directory.")
    return path, name or TABLE


def table_names(database: Any) -> list[str]:
    """The names of all tables of a database."""
    names: list[str] = []
    token = None
    while True:
        page = database.list_tables(page_token=token)
        names += page.tables
        if not (token := page.page_token):
            return names


def space_of(schema: Any) -> EmbeddingSpace | None:
    """The embedding space of a table with this Arrow schema. None: pe-embed did not make it."""
    name = (schema.metadata or {}).get(_SPACE)
    if name is None or not {*table_columns.OWN} <= {*schema.names}:
        return None
    return EmbeddingSpace(name.decode(), schema.field("embedding").type.list_size)


@contextlib.contextmanager
def lance_errors(kind: type[UsageError] | type[OutputError], shown: str) -> Iterator[None]:
    """Raise LanceDB's errors, which have no class of their own, as `kind`."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, pa.ArrowException) as error:
        raise kind(f"{shown} cannot be used: {reason(error)}") from error


def reason(error: Exception) -> str:
    """The message of an error of LanceDB in one line, without the places in its source."""
    return re.sub(r",? ?\S*/src/\S+\.rs:\d+(:\d+)?", "", " ".join(str(error).split())).strip(" .") + "."


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
