"""Addresses of PostgreSQL tables, and the errors of connections, which never show the password."""

import re

import pytest

from deploy.bulk.errors import UsageError
from deploy.bulk.outputs.postgres_address import PostgresAddress, check_extension, check_server, connect
from deploy.bulk.outputs.registry import without_password
from tests.deploy.bulk.postgres_server import PASSWORD, PostgresServer

pytestmark = pytest.mark.bulk


@pytest.mark.parametrize(
    ("address", "conninfo", "schema", "table"),
    [
        ("postgresql://h/d", "postgresql://h/d", None, "embeddings"),
        ("postgres://u@h:5/d?table=a_1", "postgres://u@h:5/d", None, "a_1"),
        ("postgresql://h/d?sslmode=require&table=s.t", "postgresql://h/d?sslmode=require", "s", "t"),
        ("postgresql:///d?host=%2Frun&table=select&port=1", "postgresql:///d?host=%2Frun&port=1", None, "select"),
    ],
)
def test_an_address_is_divided(address: str, conninfo: str, schema: str | None, table: str) -> None:
    found = PostgresAddress.parse(address)
    assert (found.conninfo, found.schema, found.table) == (conninfo, schema, table)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("postgresql:", "is incomplete"),
        ("postgresql://", "is incomplete"),
        ("postgresql://u:S3CRET/x@h/d", "special character before its last @"),
        ("postgresql://u:S3CRET@x@h/d", "special character before its last @"),
        ("postgresql://u:S3CRET?x@h/d", "special character before its last @"),
        ("postgresql://u:S3CRET%zz@h/d", "it cannot be read"),
        ("postgresql://u:S3CRET@h/d?tabel=x", 'invalid URI query parameter: "tabel"'),
        ("postgresql://u:S3CRET@h/d?table=", "is no name of a table"),
        ("postgresql://u:S3CRET@h/d?table=a&table=b", "is no name of a table"),
        ("postgresql://u:S3CRET@h/d?table=a.b.c", "is no name of a table"),
        ("postgresql://u:S3CRET@h/d?table=Pictures", "is no name of a table"),
        ("postgresql://u:S3CRET@h/d?table=a%22;drop%20table%20b", "is no name of a table"),
        ("postgresql://u:S3CRET@h/d?table=" + 64 * "a", "is no name of a table"),
    ],
)
def test_a_wrong_address_is_refused(address: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        PostgresAddress.parse(address)
    assert "S3CRET" not in str(caught.value)


def test_destinations_are_shown_without_the_password() -> None:
    assert without_password("postgresql://u:pw@h/d?table=t") == "postgresql://u:***@h/d?table=t"
    assert without_password("postgresql://h/d?password=pw&table=t") == "postgresql://h/d?password=***&table=t"
    assert without_password("lancedb:a@b#t") == "lancedb:a@b#t"


def test_a_wrong_password(postgres: PostgresServer) -> None:
    address = PostgresAddress.parse(postgres.url("postgres", password="S3CRET"))
    with pytest.raises(UsageError, match='password authentication failed for user "postgres"') as caught:
        connect(address, create_extension=True)
    assert "S3CRET" not in str(caught.value)


def test_a_database_that_does_not_exist(postgres: PostgresServer) -> None:
    with pytest.raises(UsageError, match='database "nowhere" does not exist') as caught:
        connect(PostgresAddress.parse(postgres.url("nowhere")), create_extension=True)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "message"), [("127.0.0.1:1", "Connection refused"), ("[::1", "cannot be read"), ("h:S3CRET", "port")]
)
def test_an_unreachable_server(host: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        connect(PostgresAddress.parse(f"postgresql://u:S3CRET@{host}/d"), create_extension=True)
    assert "S3CRET" not in str(caught.value)


def test_a_server_without_pgvector(postgres: PostgresServer, database: str) -> None:
    name = database.rpartition("/")[2]
    postgres.execute(postgres.url("postgres"), f"ALTER DATABASE {name} SET extension_control_path = '/nonexistent'")
    with pytest.raises(UsageError, match=r"The server has no pgvector\. Install it there .*postgresql-18-pgvector"):
        connect(PostgresAddress.parse(database), create_extension=True)


def test_a_user_who_may_not_create_the_extension(postgres: PostgresServer, database: str) -> None:
    postgres.execute(database, "CREATE ROLE guest LOGIN PASSWORD 'guest'")
    name = database.rpartition("/")[2]
    with pytest.raises(UsageError, match=f"The database {name} has no pgvector, and guest may not create it"):
        connect(PostgresAddress.parse(postgres.url(name, "guest", "guest")), create_extension=True)


def test_old_servers_and_extensions() -> None:
    check_server(130000)
    check_extension("0.5.0", "vector")
    check_extension("0.10.1", "halfvec")
    with pytest.raises(UsageError, match=r"PostgreSQL 12\. pgvector's index needs 13"):
        check_server(120011)
    with pytest.raises(UsageError, match=r"PostgreSQL 9\.6\. "):
        check_server(90624)
    with pytest.raises(UsageError, match=r"pgvector 0\.4\.4, and an index of vector needs 0\.5 or later"):
        check_extension("0.4.4", "vector")
    with pytest.raises(UsageError, match=r"halfvec needs 0\.7 or later"):
        check_extension("0.6.2", "halfvec")
