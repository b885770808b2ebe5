"""Addresses of PostgreSQL tables, connections to them, and the errors of both, without the password."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_plus

import psycopg
from psycopg import conninfo, sql

from deploy.bulk.errors import BulkError, OutputError, UsageError

TABLE: Final = "embeddings"
_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_USER_AND_PASSWORD: Final = re.compile(r"[^:/?#@\s]*(:[^:/?#@\s]*)?")
_CONNECT_SECONDS: Final = "10"
# pgvector has HNSW since 0.5.0. Its present release needs PostgreSQL 13.
_OLDEST_SERVER: Final = 130000
_OLDEST_EXTENSION: Final = {"vector": (0, 5), "halfvec": (0, 7)}


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """A table of a database.

    Args:
        conninfo: the address of the database, for libpq.
        schema: of the table. None: the first one of the search path.
        table: its name.
        password: to keep it out of messages.
    """

    conninfo: str
    schema: str | None
    table: str
    password: str | None

    @classmethod
    def parse(cls, destination: str) -> "PostgresAddress":
        """Divide `postgresql://USER@HOST/DATABASE?table=SCHEMA.TABLE` into the database's address and the table.

        Raises:
            UsageError: this is no such address. The message never contains it, because it may hold a password.
        """
        scheme, _, rest = destination.partition("://")
        if not rest:
            raise UsageError(
                "The address of PostgreSQL is incomplete. Expected postgresql://USER@HOST/DATABASE?table=NAME."
            )
        before, at, _ = rest.rpartition("@")
        if at and not _USER_AND_PASSWORD.fullmatch(before):
            raise UsageError(
                "The address of PostgreSQL has a special character before its last @. Write / as %2F, @ as %40, "
                ": as %3A, # as %23 and ? as %3F, or leave the password out and set PGPASSWORD."
            )
        address, _, query = rest.partition("?")
        tables: list[str] = []
        others: list[str] = []
        for part in filter(None, query.split("&")):
            (tables if part.startswith("table=") else others).append(part)
        names = unquote_plus(tables[0].removeprefix("table=")).split(".") if tables else [TABLE]
        if len(tables) > 1 or len(names) > 2 or not all(_NAME.fullmatch(name) for name in names):
            raise UsageError(
                f"{'&'.join(tables)} is no name of a table. Expected table=NAME or table=SCHEMA.NAME, each of up to 63 "
                "lower-case letters, digits and `_`, and no digit first."
            )
        whole = f"{scheme}://{address}{'?' if others else ''}{'&'.join(others)}"
        try:
            parts = conninfo.conninfo_to_dict(whole)
        except psycopg.ProgrammingError as error:
            # libpq repeats the parameter's name alone.
            known = str(error).strip() if "query parameter" in str(error) else "it cannot be read"
            raise UsageError(
                f"The address of PostgreSQL is wrong: {known}. Expected postgresql://USER@HOST/DATABASE?table=NAME."
            ) from None
        password = parts.get("password")
        return cls(whole, names[0] if len(names) == 2 else None, names[-1], str(password) if password else None)

    @property
    def identifier(self) -> sql.Identifier:
        """The table's quoted name in a statement."""
        return sql.Identifier(self.schema, self.table) if self.schema else sql.Identifier(self.table)

    @property
    def shown(self) -> str:
        """The table in a message."""
        parts = conninfo.conninfo_to_dict(self.conninfo)
        database = parts.get("dbname") or parts.get("user") or "by default"
        return f"The table {self.schema + '.' if self.schema else ''}{self.table} of the database {database}"


def connect(address: PostgresAddress, *, create_extension: bool) -> psycopg.Connection[Any]:
    """Connect to the database, in autocommit mode, and make sure that it has pgvector.

    Args:
        create_extension: run `CREATE EXTENSION vector` in a database without it.

    Raises:
        UsageError: the database refuses, cannot be reached, is too old, or has no pgvector.
    """
    with postgres_errors(UsageError, address):
        parts = conninfo.conninfo_to_dict(address.conninfo)
        connection: psycopg.Connection[Any] = psycopg.connect(
            address.conninfo,
            autocommit=True,
            fallback_application_name="pe-embed",
            connect_timeout=parts.get("connect_timeout", _CONNECT_SECONDS),
        )
        try:
            check_server(connection.info.server_version)
            if create_extension:
                _create_extension(connection)
        except BaseException:
            connection.close()
            raise
    return connection


def check_server(version: int) -> None:
    """Refuse a server that pgvector's index does not run on.

    Args:
        version: as libpq numbers it: 130004 is 13.4.

    Raises:
        UsageError: it is too old.
    """
    if version < _OLDEST_SERVER:
        found = f"{version // 10000}.{version // 100 % 100}" if version < 100000 else f"{version // 10000}"
        raise UsageError(f"The server is PostgreSQL {found}. pgvector's index needs 13 or later. Upgrade the server.")


def check_extension(version: str, kind: str) -> None:
    """Refuse a pgvector that has no HNSW for this type.

    Args:
        version: of the extension, as the database has it: `0.8.1`.
        kind: `vector` or `halfvec`.

    Raises:
        UsageError: it is too old.
    """
    oldest = _OLDEST_EXTENSION[kind]
    if extension_version(version) < oldest:
        raise UsageError(
            f"The database has pgvector {version}, and an index of {kind} needs {'.'.join(map(str, oldest))} or later. "
            "Install a newer one on the server, and run ALTER EXTENSION vector UPDATE."
        )


def extension_version(version: str) -> tuple[int, ...]:
    """A version as numbers that can be compared."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def installed_extension(connection: psycopg.Connection[Any]) -> str | None:
    """The version of pgvector in this database. None: it has none."""
    row = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
    return row[0] if row else None


def table_columns_of(
    connection: psycopg.Connection[Any], address: PostgresAddress
) -> dict[str, tuple[str, str | None]]:
    """The type and the comment of each column of the table, in order. Empty if there is no such table."""
    rows = connection.execute(
        "SELECT attname, format_type(atttypid, atttypmod), col_description(attrelid, attnum) FROM pg_attribute "
        "WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        [address.identifier.as_string(connection)],
    )
    # A type that is not on the search path has its schema before it.
    return {name: (kind.rpartition(".")[2], comment) for name, kind, comment in rows}


@contextlib.contextmanager
def postgres_errors(kind: type[UsageError] | type[OutputError], address: PostgresAddress) -> Iterator[None]:
    """Raise PostgreSQL's errors as `kind`, without the password."""
    try:
        yield
    except BulkError:
        raise
    except psycopg.Error as error:
        message = " ".join(str(error).split())
        if address.password:
            message = message.replace(address.password, "***")
        raise kind(f"{address.shown} cannot be used: {message}") from None


def _create_extension(connection: psycopg.Connection[Any]) -> None:
    if installed_extension(connection):
        return
    try:
        with connection.transaction():
            # Two sessions that create it at once would fail.
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('CREATE EXTENSION vector'))")
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    except (psycopg.errors.FeatureNotSupported, psycopg.errors.UndefinedFile):
        major = connection.info.server_version // 10000
        raise UsageError(
            "The server has no pgvector. Install it there (Debian's and PostgreSQL's packages: "
            f"postgresql-{major}-pgvector)."
        ) from None
    except psycopg.errors.InsufficientPrivilege:
        database = connection.info.dbname
        raise UsageError(
            f"The database {database} has no pgvector, and {connection.info.user} may not create it. Ask its owner to "
            "run CREATE EXTENSION vector there."
        ) from None
