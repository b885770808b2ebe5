"""Search in a table of PostgreSQL with pgvector."""

from typing import Any, Final

import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector import HalfVector, Vector
from pgvector.psycopg import register_vector
from psycopg import sql

from deploy.bulk.errors import OutputError, UsageError
from deploy.bulk.outputs import table_columns
from deploy.bulk.outputs.postgres_address import (
    PostgresAddress,
    connect,
    extension_version,
    installed_extension,
    postgres_errors,
    table_columns_of,
)
from deploy.bulk.outputs.postgres_table import space_of
from deploy.bulk.search.match import Match
from deploy.bulk.search.place import Place

# Candidates that the index keeps while it searches. pgvector's default is 40, its most 1000.
_CANDIDATES: Final = 200
_MAX_CANDIDATES: Final = 1000
# From this version on, an index is searched further until enough rows match the filter.
_ITERATIVE: Final = (0, 8)
_WRONG_FILTER: Final = (
    psycopg.errors.SyntaxErrorOrAccessRuleViolation,
    psycopg.errors.DataError,
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.FeatureNotSupported,
    psycopg.errors.ProgrammingError,
)


class PostgresSearch:
    """See `Place`.

    Args:
        name: the address of the table.

    Raises:
        UsageError: there is no such table, pe-embed did not make it, or the database cannot be used.
    """

    def __init__(self, name: str) -> None:
        self._address = address = PostgresAddress.parse(name)
        self._connection = connection = connect(address, create_extension=False)
        try:
            with postgres_errors(UsageError, address):
                self._open()
        except BaseException:
            connection.close()
            raise

    def _open(self) -> None:
        """Check the table, and learn its columns."""
        connection, shown = self._connection, self._address.shown
        version, columns = installed_extension(connection), table_columns_of(connection, self._address)
        if not columns:
            raise UsageError(f"{shown} does not exist. Fill it with pe-embed --into.")
        space = space_of(columns)
        if version is None or space is None:
            raise UsageError(f"{shown} was not made by pe-embed, so its embeddings are unknown.")
        register_vector(connection)
        self.space = space
        self._half = columns["embedding"][0].startswith("halfvec")
        self._iterative = extension_version(version) >= _ITERATIVE
        self._names = [column for column in columns if column not in table_columns.OWN]

    def search(self, query: NDArray[np.float32], top: int, where: str | None) -> list[Match]:
        """See `Place`. The expression is PostgreSQL's, and runs in a read-only transaction."""
        with postgres_errors(OutputError, self._address):
            found = self._select(query, top, where, exact=False)
            # The index of an older pgvector finds fewer rows if there is a filter.
            if len(found) < top:
                found = self._select(query, top, where, exact=True)
        return [Match(row[0], row[1], dict(zip(self._names, row[2:], strict=True))) for row in found]

    def close(self) -> None:
        """See `Place`."""
        self._connection.close()

    def _select(self, query: NDArray[np.float32], top: int, where: str | None, *, exact: bool) -> list[tuple[Any, ...]]:
        """Find rows by the index, or if `exact`, by comparing with all of them."""
        vector = HalfVector(query) if self._half else Vector(query)
        statement = sql.SQL("SELECT {}, 1 - (embedding <=> {}){} FROM {} WHERE embedding IS NOT NULL").format(
            sql.Identifier("id"),
            sql.Placeholder("query"),
            sql.SQL("").join(sql.SQL(", {}").format(sql.Identifier(name)) for name in self._names),
            self._address.identifier,
        )
        if where:
            # A percent sign begins a placeholder. The line's end ends a comment. Beside parameters, a server takes one
            # statement only, so the expression cannot bring another.
            statement += sql.SQL(" AND (" + where.replace("%", "%%") + "\n)")
        statement += sql.SQL(" ORDER BY embedding <=> {} LIMIT {}").format(
            sql.Placeholder("query"), sql.Placeholder("top")
        )
        with self._connection.transaction():
            self._connection.execute("SET TRANSACTION READ ONLY")
            if exact:
                self._connection.execute("SET LOCAL enable_indexscan = off")
            else:
                self._set("hnsw.ef_search", str(min(max(_CANDIDATES, 4 * top), _MAX_CANDIDATES)))
                if self._iterative:
                    self._set("hnsw.iterative_scan", "strict_order")
            try:
                if where:
                    # By itself, too: a message about a longer expression would say what the user did not write.
                    alone = sql.SQL("EXPLAIN SELECT FROM {} WHERE ").format(self._address.identifier)
                    self._connection.execute(alone + sql.SQL(where.replace("%", "%%")), {})
                return self._connection.execute(statement, {"query": vector, "top": top}).fetchall()
            except _WRONG_FILTER as error:
                if where is None:
                    raise
                columns = ", ".join(self._names) or "none"
                reason = " ".join((error.diag.message_primary or str(error)).split())
                raise UsageError(f"--where {where}: {reason}. Further columns: {columns}.") from None

    def _set(self, name: str, value: str) -> None:
        self._connection.execute("SELECT set_config(%s, %s, true)", [name, value])


def open_place(name: str) -> Place:
    """See `deploy.bulk.search.place`."""
    return PostgresSearch(name)
