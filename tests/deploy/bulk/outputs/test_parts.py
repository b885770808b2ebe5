"""Parquet and `.npy` files: what they hold, and what is left of a run that was killed."""

import os
import resource
import shutil
import signal
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deploy.bulk.errors import OutputError, UsageError
from deploy.bulk.outputs.registry import open_output
from deploy.bulk.rows import Dtype, EmbeddingSpace, Output, Row, Run, Value

pytestmark = pytest.mark.bulk

RUN = Run(EmbeddingSpace("PE-Test@0123456789ab", 4), "float32", "pictures of the folder /pictures", "1/1")
NAMES = pytest.mark.parametrize("name", ["rows.parquet", "rows.npy"])


def opened(path: Path, run: Run = RUN) -> Output:
    return open_output(Namespace(out=str(path), into=None), run)


def vector(seed: int) -> Any:
    value = np.random.default_rng(seed).standard_normal(4).astype(np.float32)
    return value / np.linalg.norm(value)


def row(item_id: str, seed: int, **columns: Value) -> Row:
    return Row(item_id, vector(seed), None, columns)


def bad(item_id: str, **columns: Value) -> Row:
    return Row(item_id, None, "Could not load input image.", columns)


def written(path: Path) -> dict[str, tuple[Any, str | None]]:
    """The embeddings and errors by id, of either kind of file, as a user would read them."""
    table = pq.read_table(path if path.suffix == ".parquet" else path.with_name(f"{path.stem}.ids.parquet"))
    rows = table.to_pylist()
    if path.suffix == ".npy":
        array = np.load(path)
        assert [found["row"] for found in rows if found["row"] is not None] == list(range(len(array)))
        for found in rows:
            found["embedding"] = None if found["row"] is None else array[found["row"]]
    assert len({found["id"] for found in rows}) == len(rows)
    return {found["id"]: (found["embedding"], found["error"]) for found in rows}


def same(path: Path, expected: Sequence[Row], atol: float = 0) -> bool:
    found = written(path)
    assert list(found) == [item.id for item in expected]
    for item in expected:
        embedding, error = found[item.id]
        assert error == item.error
        assert (embedding is None) == (item.embedding is None)
        if item.embedding is not None:
            np.testing.assert_allclose(embedding, item.embedding, atol=atol)
    return True


@NAMES
def test_rows_are_written_in_order(tmp_path: Path, name: str) -> None:
    rows = [row("b", 1), bad("ü"), row("a", 2)]
    output = opened(tmp_path / name)
    output.write(rows[:1])
    output.write(rows[1:])
    assert (set(output.finished()), set(output.failed())) == ({"a", "b"}, {"ü"})
    output.close()
    assert same(tmp_path / name, rows)
    assert not [path for path in tmp_path.iterdir() if path.suffix not in (".parquet", ".npy")]


def test_the_parquet_file_has_a_schema_that_names_the_space(tmp_path: Path) -> None:
    kinds: dict[Dtype, Any] = {"float32": pa.float32(), "float16": pa.float16()}
    for dtype, kind in kinds.items():
        path = tmp_path / f"{dtype}.parquet"
        output = opened(path, replace(RUN, dtype=dtype))
        output.write([row("a", 1, year=2001, name="x"), row("b", 2, year=None, name=None)])
        output.close()
        schema = pq.read_schema(path)
        assert schema.field("id").type == pa.string()
        assert schema.field("error").type == pa.string()
        assert schema.field("embedding").type.value_type == kind
        assert schema.field("embedding").type.list_size == 4
        assert schema.names == ["id", "embedding", "error", "year", "name"]
        assert schema.metadata[b"embedding_space"] == b"PE-Test@0123456789ab"
        assert same(path, [row("a", 1), row("b", 2)], atol=1e-3 if dtype == "float16" else 0)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_array_has_the_dtype_and_only_embeddings(tmp_path: Path, dtype: Any) -> None:
    output = opened(tmp_path / "rows.npy", replace(RUN, dtype=dtype))
    output.write([bad("x"), row("a", 1), bad("y"), row("b", 2)])
    output.close()
    array = np.load(tmp_path / "rows.npy")
    assert array.dtype == dtype
    assert array.shape == (2, 4)
    ids = pq.read_table(tmp_path / "rows.ids.parquet")
    assert ids.schema.names == ["id", "row", "error"]
    assert ids["row"].to_pylist() == [None, 0, None, 1]


@NAMES
def test_a_killed_run_continues(tmp_path: Path, name: str) -> None:
    killed = opened(tmp_path / name)
    killed.write([row("a", 1), bad("b")])
    os.close(killed._lock)  # type: ignore[attr-defined]  # as the kernel does it
    (tmp_path / f"{name}.parts/part-000001.parquet.tmp").write_bytes(b"PAR1 half of a file")
    assert not (tmp_path / name).exists()
    output = opened(tmp_path / name)
    assert (set(output.finished()), set(output.failed())) == ({"a"}, {"b"})
    output.write([row("c", 3)])
    output.close()
    assert same(tmp_path / name, [row("a", 1), bad("b"), row("c", 3)])


@NAMES
def test_a_complete_file_is_continued(tmp_path: Path, name: str) -> None:
    for rows in ([row("a", 1), bad("b")], [row("b", 2), row("c", 3)], [bad("d")], []):
        output = opened(tmp_path / name)
        output.write(rows)
        output.close()
    assert same(tmp_path / name, [row("a", 1), row("b", 2), row("c", 3), bad("d")])
    output = opened(tmp_path / name)
    assert (set(output.finished()), set(output.failed())) == ({"a", "b", "c"}, {"d"})
    output.close()


@NAMES
def test_a_complete_file_stays_until_the_next_one_is_complete(tmp_path: Path, name: str) -> None:
    output = opened(tmp_path / name)
    output.write([row("a", 1)])
    output.close()
    killed = opened(tmp_path / name)
    killed.write([row("b", 2)])
    os.close(killed._lock)  # type: ignore[attr-defined]
    assert same(tmp_path / name, [row("a", 1)])
    opened(tmp_path / name).close()
    assert same(tmp_path / name, [row("a", 1), row("b", 2)])


@NAMES
@pytest.mark.parametrize("killed_while", ["before the parts are gone", "while the parts are being removed"])
def test_a_run_that_was_killed_at_its_end_is_complete(tmp_path: Path, name: str, killed_while: str) -> None:
    rows = [row("a", 1), bad("b"), row("c", 3)]
    output = opened(tmp_path / name)
    output.write(rows[:1])
    output.write(rows[1:])
    shutil.copytree(tmp_path / f"{name}.parts", tmp_path / "copy")
    output.close()
    if killed_while.startswith("before"):
        shutil.move(tmp_path / "copy", tmp_path / f"{name}.parts")
    else:
        (tmp_path / "copy/part-000000.parquet").unlink()
        shutil.move(tmp_path / "copy", tmp_path / f"{name}.joined")
    output = opened(tmp_path / name)
    assert (set(output.finished()), set(output.failed())) == ({"a", "c"}, {"b"})
    output.close()
    assert same(tmp_path / name, rows)
    assert not list(tmp_path.glob("*.parts"))
    assert not list(tmp_path.glob("*.joined"))


@NAMES
def test_the_last_row_of_an_id_counts(tmp_path: Path, name: str) -> None:
    output = opened(tmp_path / name)
    output.write([row("a", 1), row("b", 2)])
    output.write([bad("b"), row("c", 3)])
    output.close()
    assert same(tmp_path / name, [row("a", 1), bad("b"), row("c", 3)])


@NAMES
def test_rows_of_other_ids_are_removed(tmp_path: Path, name: str) -> None:
    output = opened(tmp_path / name)
    output.write([row("a", 1), row("b", 2), bad("c")])
    output.close()
    output = opened(tmp_path / name)
    assert output.remove_others(["a", "c", "d"]) == 1
    assert set(output.finished()) == {"a"}
    output.close()
    assert same(tmp_path / name, [row("a", 1), bad("c")])
    output = opened(tmp_path / name)
    assert output.remove_others(["a", "c"]) == 0
    output.close()


@NAMES
def test_a_run_without_rows_makes_an_empty_file(tmp_path: Path, name: str) -> None:
    opened(tmp_path / name).close()
    assert same(tmp_path / name, [])
    output = opened(tmp_path / name)
    output.write([row("a", 1)])
    output.close()
    assert same(tmp_path / name, [row("a", 1)])


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([None, 3], pa.int64(), [None, 3]),
        ([3, 2.5], pa.float64(), [3.0, 2.5]),
        ([3, "x"], pa.string(), ["3", "x"]),
        ([None, None], pa.null(), [None, None]),
        ([True, False], pa.bool_(), [True, False]),
    ],
)
def test_a_column_gets_a_type_for_all_of_its_values(
    tmp_path: Path, values: list[Value], kind: Any, expected: list[Value]
) -> None:
    output = opened(tmp_path / "rows.parquet")
    for number, value in enumerate(values):
        output.write([row(str(number), number, value=value)])
    output.close()
    column = pq.read_table(tmp_path / "rows.parquet")["value"]
    assert column.type == kind
    assert column.to_pylist() == expected


@pytest.mark.parametrize(("name", "column"), [("rows.parquet", "error"), ("rows.npy", "error"), ("rows.npy", "row")])
def test_a_column_of_a_reserved_name(tmp_path: Path, name: str, column: str) -> None:
    with pytest.raises(UsageError, match=f"may not be called '{column}'"):
        opened(tmp_path / name).write([row("a", 1, **{column: "x"})])


@NAMES
@pytest.mark.parametrize("complete", [False, True])
@pytest.mark.parametrize(
    ("other", "message"),
    [
        (replace(RUN, space=EmbeddingSpace("PE-Other@000000000000", 4)), "embeddings of PE-Test@0123456789ab"),
        (replace(RUN, dtype="float16"), "has embeddings in float32, and this run has embeddings in float16"),
        (replace(RUN, source="pictures of the folder /other"), "has the source: pictures of the folder /pictures"),
        (replace(RUN, shard="1/2"), "has the shard 1/1, and this run has the shard 1/2"),
    ],
)
def test_another_run_is_refused(tmp_path: Path, name: str, complete: bool, other: Run, message: str) -> None:
    output = opened(tmp_path / name)
    output.write([row("a", 1)])
    if complete:
        output.close()
    else:
        os.close(output._lock)  # type: ignore[attr-defined]
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=message) as refused:
        opened(tmp_path / name, other)
    assert "Remove" in str(refused.value)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_files_of_others_are_not_overwritten(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "rows.parquet")
    with pytest.raises(UsageError, match="pe-embed did not write it"):
        opened(tmp_path / "rows.parquet")
    (tmp_path / "text.parquet").write_text("text")
    with pytest.raises(UsageError, match="cannot be read"):
        opened(tmp_path / "text.parquet")
    np.save(tmp_path / "rows.npy", np.zeros((2, 4)))
    with pytest.raises(UsageError, match="cannot be read"):
        opened(tmp_path / "rows.npy")
    assert np.load(tmp_path / "rows.npy").shape == (2, 4)


@NAMES
def test_two_processes_do_not_write_one_file(tmp_path: Path, name: str) -> None:
    output = opened(tmp_path / name)
    with pytest.raises(UsageError, match="another pe-embed writes this file"):
        opened(tmp_path / name)
    output.close()
    opened(tmp_path / name).close()


@NAMES
def test_a_folder_that_does_not_exist(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be written: No such file or directory"):
        opened(tmp_path / "none" / name)


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    output = opened(tmp_path / "rows.parquet")
    output.write([row("a", 1)])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # Writing past it fails like writing to a full disk.
    try:
        with pytest.raises(OutputError, match=r"cannot be written: .*Rows written before are kept"):
            output.write([row(str(number), number) for number in range(1000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert set(output.finished()) == {"a"}
    output.close()
    assert same(tmp_path / "rows.parquet", [row("a", 1)])


def test_what_no_output_is_called(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"must end with \.parquet or \.npy"):
        opened(tmp_path / "rows.csv")
    with pytest.raises(UsageError, match="no database that is known"):
        open_output(Namespace(out=None, into="mysql:x"), RUN)
