"""Both databases as outputs: what any table has to do."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from deploy.bulk.errors import OutputError, UsageError
from deploy.bulk.outputs import lance_table, postgres_table
from deploy.bulk.rows import Dtype, EmbeddingSpace, Output, Row, Run, Value
from deploy.bulk.search.match import Match
from deploy.bulk.search.place import open_place
from tests.deploy.bulk.postgres_server import PostgresServer

pytestmark = pytest.mark.bulk

_connected: list[postgres_table.PostgresTable] = []
SPACE = EmbeddingSpace("PE-Test@1", 8)


def run_of(space: EmbeddingSpace = SPACE, dtype: Dtype = "float32", shard: str = "1/1") -> Run:
    return Run(space, dtype, "pictures of a folder", shard)


def opened(destination: str, run: Run | None = None) -> Output:
    if destination.startswith("lancedb:"):
        return lance_table.open_output(destination, run or run_of())
    table = postgres_table.PostgresTable(destination, run or run_of())
    _connected.append(table)
    return table


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Close connections of outputs that a test did not close, as it does if a run fails."""
    yield
    while _connected:
        _connected.pop()._connection.close()


def unit(number: int) -> NDArray[np.float32]:
    return np.asarray(np.eye(8)[number], np.float32)


def rows_of(destination: str) -> dict[str, Match]:
    """All rows that have an embedding, by id."""
    place = open_place(destination)
    found = place.search(unit(0), 10_000, None)
    place.close()
    return {match.id: match for match in found}


def test_rows_are_written_replaced_and_removed(destination: str) -> None:
    output = opened(destination)
    assert (output.finished(), output.failed()) == (set(), set())
    output.write([Row("a", unit(0)), Row("b", None, "bad"), Row("o'c\" %s {}", unit(2)), Row("ä/日", unit(3))])
    assert output.finished() == {"a", "o'c\" %s {}", "ä/日"}
    assert output.failed() == {"b"}
    output.write([Row("b", unit(1)), Row("a", unit(4)), Row("a", unit(5))])
    assert (output.finished(), output.failed()) == ({"a", "b", "o'c\" %s {}", "ä/日"}, set())
    assert output.remove_others(["a", "o'c\" %s {}", "never there"]) == 2
    output.close()
    again = opened(destination)
    assert again.finished() == {"a", "o'c\" %s {}"}
    again.write([])
    again.close()
    place = open_place(destination)
    assert place.space == SPACE
    (best,) = place.search(unit(5), 1, None)
    place.close()
    assert best.id == "a"
    assert best.similarity == pytest.approx(1, abs=1e-6)


def test_columns_are_real_ones_and_typed(destination: str) -> None:
    output = opened(destination)
    output.write([Row("a", unit(0), None, {"Size": 3, "late": None, "mixed": 1})])
    columns: dict[str, Value] = {"Size": None, "late": 2.5, "mixed": 2, "red": True, 'a"; DROP TABLE pictures; --': "x"}
    output.write([Row("b", unit(1), None, columns)])
    output.write([Row("c", unit(2), None, {"late": 7, "text": "NUL \0 and 'quotes' \\"})])
    output.close()
    found = rows_of(destination)
    assert found["a"].columns["Size"] == 3
    assert found["b"].columns["late"] == 2.5
    assert type(found["c"].columns["late"]) is float
    assert found["b"].columns["red"] is True
    assert found["b"].columns['a"; DROP TABLE pictures; --'] == "x"
    assert str(found["c"].columns["text"]).endswith("and 'quotes' \\")
    assert found["c"].columns["Size"] is None


def test_a_value_of_another_type_loses_nothing(destination: str) -> None:
    output = opened(destination)
    output.write([Row("a", unit(0), None, {"size": 3})])
    for bad, message in [({"size": "big"}, "b: size is 'big'"), ({"id": 1}, "cannot be a column of the table")]:
        with pytest.raises(OutputError, match=message):
            output.write([Row("b", unit(1), None, cast(dict[str, Value], bad))])
    output.write([Row("c", unit(1), None, {"size": 4})])
    assert output.finished() == {"a", "c"}


def test_float16(destination: str) -> None:
    output = opened(destination, run_of(dtype="float16"))
    embedding = np.full(8, 8**-0.5, np.float32)
    output.write([Row("a", embedding), Row("b", None, "bad")])
    output.close()
    assert rows_of(destination)["a"].similarity == pytest.approx(8**-0.5, abs=1e-3)
    with pytest.raises(UsageError, match="Give --dtype float16, or name another table"):
        opened(destination, run_of(dtype="float32"))


@pytest.mark.parametrize("space", [EmbeddingSpace("PE-Test@2", 8), EmbeddingSpace("PE-Test@1", 16)])
def test_a_table_of_other_weights_is_refused(destination: str, space: EmbeddingSpace) -> None:
    output = opened(destination)
    output.write([Row("a", unit(0))])
    output.close()
    with pytest.raises(UsageError, match=r"holds embeddings of PE-Test@1 \(8 numbers\)\. The server makes those of"):
        opened(destination, run_of(space))
    assert [*rows_of(destination)] == ["a"]


def test_two_processes_make_one_table_and_write_to_it(destination: str) -> None:
    program = (
        "import sys, numpy as np\n"
        "from deploy.bulk.rows import Row\n"
        "from tests.deploy.bulk.outputs.test_tables import opened, run_of\n"
        "shard = int(sys.argv[2])\n"
        "output = opened(sys.argv[1], run_of(shard=f'{shard}/2'))\n"
        "for batch in range(5):\n"
        "    rows = [Row(f'{shard}-{batch}-{n}', np.eye(8, dtype='f4')[n], None, {'n': n}) for n in range(8)]\n"
        "    output.write(rows)\n"
        "output.close()\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", program, destination, str(shard)]) for shard in (1, 2)]
    assert [process.wait(120) for process in processes] == [0, 0]
    assert len(opened(destination).finished()) == 80


def test_a_kill_loses_one_batch_at_most(destination: str, tmp_path: Path) -> None:
    program = (
        "import sys, numpy as np\n"
        "from deploy.bulk.rows import Row\n"
        "from tests.deploy.bulk.outputs.test_tables import opened\n"
        "output = opened(sys.argv[1])\n"
        "for batch in range(100_000):\n"
        "    output.write([Row(f'{batch}-{n}', np.eye(8, dtype='f4')[n % 8]) for n in range(200)])\n"
        "    print(batch, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, destination], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(5):
            process.stdout.readline()
        time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        written = 5 + len(process.stdout.readlines())
    finished = opened(destination).finished()
    batches = {item_id.partition("-")[0] for item_id in finished}
    assert len(finished) == 200 * len(batches), "a batch is written as a whole"
    assert {str(number) for number in range(written)} <= batches
    assert len(batches) <= written + 1


# -- LanceDB


def test_lancedb_has_an_index_when_there_are_enough_rows(tmp_path: Path) -> None:
    destination = f"lancedb:{tmp_path}"
    table = lance_table.LanceTable(destination, run_of(), rows_for_index=300)
    rng = np.random.default_rng(0)
    for start in (0, 250):
        embeddings = rng.standard_normal((250, 8)).astype(np.float32)
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
        table.write([Row(f"{start + n}", embedding) for n, embedding in enumerate(embeddings)])
        table.close()
        inner: Any = table._table
        indexed = {index.columns[0]: index.num_unindexed_rows for index in inner.list_indices()}
        assert indexed == ({"embedding": 0, "id": 0} if start else {})
    table.write([Row("new", unit(0))])
    assert "new" in rows_of(destination)
    table.close()
    assert len(rows_of(destination)) == 501


def test_lancedb_joins_the_files_of_many_writes(tmp_path: Path) -> None:
    table = lance_table.LanceTable(f"lancedb:{tmp_path}", run_of(shard="1/2"), writes_for_compaction=5)
    for number in range(12):
        table.write([Row(f"{number}", np.eye(8, dtype=np.float32)[number % 8])])
    inner: Any = table._table
    assert inner.stats()["fragment_stats"]["num_fragments"] == 3, "ten writes in one, and two after them"
    assert inner.count_rows() == len(table.finished()) == 12


def test_lancedb_lists_more_ids_than_a_page(tmp_path: Path) -> None:
    table = opened(f"lancedb:{tmp_path}")
    table.write([Row(f"{number}", None, "bad") for number in range(25_000)])
    assert len(table.failed()) == 25_000
    assert table.remove_others(["5"]) == 24_999


@pytest.mark.parametrize(
    ("destination", "message"),
    [
        ("lancedb:", "the directory is missing"),
        ("lancedb:#t", "the directory is missing"),
        ("lancedb:{}/a#b/c", "is no name of a table"),
        ("lancedb:{}/a#x'; --", "is no name of a table"),
        ("lancedb:{}/file", "is a file"),
        ("lancedb:/proc/nowhere", "cannot be used"),
    ],
)
def test_lancedb_refuses_wrong_destinations(tmp_path: Path, destination: str, message: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=message):
        opened(destination.format(tmp_path))


# -- PostgreSQL


def test_postgres_has_hnsw_by_cosine(postgres: PostgresServer, database: str) -> None:
    for dtype, operators in (("float32", "vector_cosine_ops"), ("float16", "halfvec_cosine_ops")):
        output = opened(f"{database}?table=select", run_of(dtype=cast(Dtype, dtype)))
        output.write([Row("a", unit(0))])
        output.close()
        opened(f"{database}?table=select", run_of(dtype=cast(Dtype, dtype))).close()
        found = postgres.execute(database, "SELECT indexdef FROM pg_indexes WHERE tablename = 'select' ORDER BY 1")
        assert len(found) == 2
        assert f"USING hnsw (embedding {operators})" in found[0][0]
        postgres.execute(database, 'DROP TABLE "select"')


def test_a_shard_makes_no_index(postgres: PostgresServer, database: str) -> None:
    output = opened(database, run_of(shard="1/2"))
    output.write([Row("a", unit(0))])
    output.close()
    (count,) = postgres.execute(database, "SELECT count(*) FROM pg_indexes WHERE indexdef LIKE '%hnsw%'")
    assert count == (0,)


def test_postgres_connects_again(postgres: PostgresServer, database: str) -> None:
    output = opened(database)
    output.write([Row("a", unit(0))])
    postgres.execute(
        postgres.url("postgres"),
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pe-embed'",
    )
    output.write([Row("b", unit(1))])
    assert output.finished() == {"a", "b"}


def test_a_table_that_pe_embed_did_not_make_is_left_alone(postgres: PostgresServer, database: str) -> None:
    postgres.execute(database, "CREATE EXTENSION vector")
    postgres.execute(database, "CREATE TABLE own (id text, embedding vector(8), error text)")
    postgres.execute(database, "INSERT INTO own VALUES ('x', NULL, NULL)")
    with pytest.raises(UsageError, match=r"The table own of the database .* was not made by pe-embed"):
        opened(f"{database}?table=own")
    assert postgres.execute(database, "SELECT id FROM own") == [("x",)]


def test_postgres_keeps_columns_that_the_user_added(postgres: PostgresServer, database: str) -> None:
    opened(database).write([Row("a", unit(0))])
    postgres.execute(database, "ALTER TABLE embeddings ADD COLUMN note jsonb, ADD COLUMN n integer DEFAULT 5")
    postgres.execute(database, "UPDATE embeddings SET note = '{}'")
    output = opened(database)
    output.write([Row("a", unit(1)), Row("b", unit(2), None, {"n": 6})])
    assert postgres.execute(database, "SELECT id, note, n FROM embeddings ORDER BY id") == [
        ("a", {}, None),
        ("b", None, 6),
    ]
    with pytest.raises(OutputError, match="holds another type"):
        output.write([Row("c", unit(0), None, {"note": "x"})])


def test_pgvector_in_a_schema_of_its_own(postgres: PostgresServer, database: str) -> None:
    postgres.execute(database, "CREATE SCHEMA extensions")
    postgres.execute(database, "CREATE EXTENSION vector SCHEMA extensions")
    with pytest.raises(UsageError, match="a schema that is not on the search path"):
        opened(database)
    destination = f"{database}?options=-csearch_path%3Dpublic,extensions"
    output = opened(destination)
    output.write([Row("a", unit(0))])
    output.close()
    assert [*rows_of(destination)] == ["a"]


def test_more_numbers_than_an_index_takes(database: str) -> None:
    with pytest.raises(UsageError, match="index takes 2000 numbers of type vector"):
        opened(database, run_of(EmbeddingSpace("PE-Large@1", 2001)))
