"""A table of PostgreSQL with pgvector: `--into postgresql://USER@HOST/DATABASE?table=NAME`."""

import contextlib
import time
from collections.abc import Collection, Sequence
from typing import Any, Final

import psycopg
from pgvector import HalfVector, Vector
from pgvector.psycopg import register_vector
from psycopg import sql

from deploy.bulk.errors import OutputError, UsageError
from deploy.bulk.outputs import table_columns
from deploy.bulk.outputs.postgres_address import (
    PostgresAddress,
    check_extension,
    connect,
    installed_extension,
    postgres_errors,
    table_columns_of,
)
from deploy.bulk.outputs.table_columns import Kind
from deploy.bulk.rows import Dtype, EmbeddingSpace, Output, Row, Run, Value

# Columns that every table of PostgreSQL has.
_RESERVED: Final = ("tableoid", "xmin", "cmin", "xmax", "cmax", "ctid")
_LONGEST_NAME: Final = 63
_VECTOR_TYPES: Final[dict[Dtype, str]] = {"float32": "vector", "float16": "halfvec"}
_TYPES: Final[dict[Kind, str]] = {"bool": "boolean", "int": "bigint", "float": "double precision", "text": "text"}
_KINDS: Final[dict[str, Kind]] = {
    **{sql_type: kind for kind, sql_type in _TYPES.items()},
    "integer": "int",
    "real": "float",
    "character varying": "text",
}
# Numbers that pgvector's HNSW takes, at most.
_MAX_DIMENSIONS: Final = {"vector": 2000, "halfvec": 4000}
# A database that restarts is back after such a time.
_RECONNECT_SECONDS: Final = (1, 2, 4, 8, 15)
# pgvector builds an index faster if its graph fits into this memory. Each vector has neighbours and a head.
_GRAPH_BYTES: Final = 700
_MAX_BUILD_KB: Final = 2**20


class PostgresTable:
    """Rows in a table of PostgreSQL. See `Output`. The comment of its column `embedding` is the embedding space.

    Args:
        destination: the address of the table.
        run: its embeddings. float16 makes a column of pgvector's type `halfvec`.

    Raises:
        UsageError: there is a table of other embeddings, or the database cannot be used.
    """

    def __init__(self, destination: str, run: Run) -> None:
        self._run = run
        self._address = PostgresAddress.parse(destination)
        self._type = _VECTOR_TYPES[run.dtype]
        if run.space.dimension > (limit := _MAX_DIMENSIONS[self._type]):
            raise UsageError(
                f"pgvector's index takes {limit} numbers of type {self._type}, and an embedding of {run.space.name} "
                f"has {run.space.dimension}."
            )
        self._connection = self._connect()
        try:
            with postgres_errors(UsageError, self._address):
                self._make_table()
        except BaseException:
            self._connection.close()
            raise

    def finished(self) -> Collection[str]:
        """See `Output`."""
        return self._ids("embedding IS NOT NULL")

    def failed(self) -> Collection[str]:
        """See `Output`."""
        return self._ids("embedding IS NULL")

    def write(self, rows: Sequence[Row]) -> None:
        """See `Output`. If the connection is lost, it is made again.

        Raises:
            OutputError: they cannot be written, or a value does not fit into its column.
        """
        rows = table_columns.last_of_each_id(rows)
        table_columns.check_ids(rows)
        table_columns.check_names({name for row in rows for name in row.columns}, _RESERVED, _LONGEST_NAME)
        for seconds in (*_RECONNECT_SECONDS, None):
            try:
                with postgres_errors(OutputError, self._address):
                    self._upsert(rows)
            except OutputError:
                if seconds is None or not self._connection.broken:
                    raise
            else:
                return
            time.sleep(seconds)
            with contextlib.suppress(UsageError):
                self._connection = self._connect()

    def remove_others(self, ids: Collection[str]) -> int:
        """See `Output`."""
        with postgres_errors(OutputError, self._address), self._connection.transaction():
            self._connection.execute("CREATE TEMP TABLE kept_ids (id text PRIMARY KEY) ON COMMIT DROP")
            with self._connection.cursor() as cursor, cursor.copy("COPY kept_ids FROM STDIN") as copy:
                for item_id in set(ids):
                    copy.write_row([item_id])
            deleted = self._connection.execute(
                sql.SQL("DELETE FROM {} AS t WHERE NOT EXISTS (SELECT FROM kept_ids AS k WHERE k.id = t.id)").format(
                    self._address.identifier
                )
            )
            return deleted.rowcount

    def close(self) -> None:
        """Make the index if there is none. A shard leaves it to a last run without --shard, because rows are added to
        an index more slowly than an index is made of rows.

        Raises:
            OutputError: the database is gone or full.
        """
        with postgres_errors(OutputError, self._address), self._connection as connection:
            if self._run.shard == "1/1":
                with connection.transaction():
                    self._lock()
                    if not self._has_index():
                        self._make_index()
                connection.execute(sql.SQL("ANALYZE {}").format(self._address.identifier))

    def _connect(self) -> psycopg.Connection[Any]:
        connection = connect(self._address, create_extension=True)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: psycopg.Connection[Any]) -> None:
        """Check the extension, and let the connection know its types."""
        with postgres_errors(UsageError, self._address):
            check_extension(installed_extension(connection) or "0", self._type)
            if connection.execute("SELECT to_regtype('vector')").fetchone() == (None,):
                raise UsageError(
                    "pgvector is in a schema that is not on the search path. Add its schema to the address, as in "
                    "&options=-csearch_path%3Dpublic,extensions."
                )
            register_vector(connection)

    def _make_table(self) -> None:
        """Make the table, or check that it is one of the same embeddings."""
        wanted = f"{self._type}({self._run.space.dimension})"
        with self._connection.transaction():
            self._lock()  # another shard may make it at the same time
            if not (columns := table_columns_of(self._connection, self._address)):
                parts = {"table": self._address.identifier, "type": sql.SQL(wanted), "space": self._run.space.name}
                self._connection.execute(
                    sql.SQL("CREATE TABLE {table} (id text PRIMARY KEY, embedding {type}, error text)").format(**parts)
                )
                self._connection.execute(sql.SQL("COMMENT ON COLUMN {table}.embedding IS {space}").format(**parts))
                return
        shown = self._address.shown
        table_columns.check_space(shown, space_of(columns), self._run.space)
        if columns["embedding"][0] != wanted:
            other = next(dtype for dtype in _VECTOR_TYPES if dtype != self._run.dtype)
            raise UsageError(
                f"{shown} holds embeddings as {columns['embedding'][0]}, and this run makes {wanted}. Give --dtype "
                f"{other}, or name another table."
            )

    def _upsert(self, rows: Sequence[Row]) -> None:
        with self._connection.transaction(), self._connection.cursor() as cursor:
            kinds = self._kinds()
            if missing := table_columns.new_columns(rows, kinds):
                self._add_columns(missing)
                kinds = self._kinds()
            names = [name for name in kinds if any(name in row.columns for row in rows)]
            cursor.executemany(
                _upsert_statement(self._address, names), [self._values(row, names, kinds) for row in rows]
            )

    def _values(self, row: Row, names: Sequence[str], kinds: dict[str, Kind | None]) -> list[Any]:
        embedding = row.embedding
        make = Vector if self._type == "vector" else HalfVector
        vector = None if embedding is None else make(embedding)
        return [
            row.id,
            vector,
            None if row.error is None else _storable(row.error),
            *(_storable(table_columns.fitted(row.columns.get(name), kinds[name])) for name in names),
        ]

    def _add_columns(self, kinds: dict[str, Kind]) -> None:
        for name, kind in kinds.items():
            self._connection.execute(
                sql.SQL("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} {}").format(
                    self._address.identifier, sql.Identifier(name), sql.SQL(_TYPES[kind])
                )
            )

    def _kinds(self) -> dict[str, Kind | None]:
        """The kinds of the further columns."""
        columns = table_columns_of(self._connection, self._address)
        return {name: _KINDS.get(kind) for name, (kind, _) in columns.items() if name not in table_columns.OWN}

    def _ids(self, where: str) -> set[str]:
        with postgres_errors(OutputError, self._address):
            statement = sql.SQL("SELECT id FROM {} WHERE {}").format(self._address.identifier, sql.SQL(where))
            return {row[0] for row in self._connection.execute(statement)}

    def _lock(self) -> None:
        """Keep other sessions of pe-embed from changing the table's definition, until the transaction ends."""
        name = self._address.identifier.as_string(self._connection)
        self._connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"pe-embed {name}"])

    def _has_index(self) -> bool:
        found = self._connection.execute(
            "SELECT EXISTS (SELECT FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid "
            "JOIN pg_am AS m ON m.oid = c.relam WHERE i.indrelid = to_regclass(%s) "
            "AND i.indisvalid AND m.amname IN ('hnsw', 'ivfflat'))",
            [self._address.identifier.as_string(self._connection)],
        ).fetchone()
        return bool(found and found[0])

    def _make_index(self) -> None:
        """Build HNSW by cosine, in at most 1 GiB of memory, or what the server is set to if that is more."""
        table = self._address.identifier
        count = self._connection.execute(sql.SQL("SELECT count(embedding) FROM {}").format(table)).fetchone()
        number_bytes = 4 if self._type == "vector" else 2
        needed = count[0] * (self._run.space.dimension * number_bytes + _GRAPH_BYTES) // 1024 if count else 0
        self._connection.execute(
            "SELECT set_config('maintenance_work_mem', greatest(setting::bigint, %s)::text || 'kB', true) "
            "FROM pg_settings WHERE name = 'maintenance_work_mem'",
            [min(needed, _MAX_BUILD_KB)],
        )
        operators = sql.SQL(f"{self._type}_cosine_ops")
        self._connection.execute(sql.SQL("CREATE INDEX ON {} USING hnsw (embedding {})").format(table, operators))


def open_output(destination: str, run: Run) -> Output:
    """See `Opener`."""
    return PostgresTable(destination, run)


def space_of(columns: dict[str, tuple[str, str | None]]) -> EmbeddingSpace | None:
    """The embedding space of a table with these columns. None: pe-embed did not make it."""
    if not {*table_columns.OWN} <= {*columns}:
        return None
    kind, space = columns["embedding"]
    dimension = kind.partition("(")[2].rstrip(")")
    return EmbeddingSpace(space, int(dimension)) if space and dimension.isdecimal() else None


def _upsert_statement(address: PostgresAddress, names: Sequence[str]) -> sql.Composed:
    identifiers = [sql.Identifier(name) for name in ("id", "embedding", "error", *names)]
    return sql.SQL("INSERT INTO {} ({}) VALUES ({}) ON CONFLICT (id) DO UPDATE SET {}").format(
        address.identifier,
        sql.SQL(", ").join(identifiers),
        sql.SQL(", ").join([sql.Placeholder()] * len(identifiers)),
        sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(name) for name in identifiers[1:]),
    )


def _storable(value: Value) -> Value:
    """A text without NUL, which PostgreSQL does not store."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else value
