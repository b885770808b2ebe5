"""Columns of Parquet and CSV files."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deploy.bulk.errors import ItemError, UsageError
from deploy.bulk.sources.table import Table

pytestmark = pytest.mark.bulk

MAX_BYTES = 1000


def parquet(folder: Path, **columns: Any) -> Path:
    path = folder / "table.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def csv(folder: Path, text: str, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_image_files_in_a_column(tmp_path: Path) -> None:
    path = parquet(tmp_path, image=pa.array([b"a", None, b"c"], pa.binary()), year=[1999, None, 2001], day=[1.5, 2, 3])
    table = Table(path, "image", None, ["year"], tmp_path)
    items = list(table)
    assert list(table.ids()) == [item.id for item in items] == ["0", "1", "2"]
    assert items[2].load(MAX_BYTES) == b"c"
    assert [item.columns for item in items] == [{"year": 1999}, {"year": None}, {"year": 2001}]
    with pytest.raises(ItemError, match="The row has no image"):
        items[1].load(MAX_BYTES)


def test_image_files_as_hugging_face_has_them(tmp_path: Path) -> None:
    path = parquet(tmp_path, image=[{"bytes": b"a", "path": "x.jpg"}, {"bytes": b"b", "path": None}], name=["x", "y"])
    table = Table(path, "image", "name", [], tmp_path)
    assert [(item.id, item.load(MAX_BYTES)) for item in table] == [("x", b"a"), ("y", b"b")]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str
)
def test_strings_of_every_type(tmp_path: Path, kind: pa.DataType) -> None:
    (tmp_path / "x.jpg").write_bytes(b"a")
    (item,) = Table(parquet(tmp_path, file=pa.array(["x.jpg"]).cast(kind)), "file", None, ["file"], tmp_path)
    assert (item.id, item.load(MAX_BYTES), item.columns) == ("x.jpg", b"a", {"file": "x.jpg"})


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary(1), pa.binary_view()], ids=str)
def test_image_files_of_every_type(tmp_path: Path, kind: pa.DataType) -> None:
    (item,) = Table(parquet(tmp_path, image=pa.array([b"a"]).cast(kind)), "image", None, [], tmp_path)
    assert (item.id, item.load(MAX_BYTES)) == ("0", b"a")


def test_values_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"file,title\na.jpg,caf\xe9\n")
    (item,) = Table(path, "file", None, ["title"], tmp_path)
    assert item.columns == {"title": r"caf\xe9"}


def test_paths_are_their_own_ids(tmp_path: Path) -> None:
    (tmp_path / "007").write_bytes(b"a")
    path = csv(tmp_path, 'file,score,title\n007,1,"x, ""y""\nz"\n8,2.5,\n')
    first, second = Table(path, "file", None, ["score", "title"], tmp_path)
    assert (first.id, second.id) == ("007", "8")
    assert first.load(MAX_BYTES) == b"a"
    assert first.columns == {"score": 1.0, "title": 'x, "y"\nz'}


def test_texts_with_ids(tmp_path: Path) -> None:
    path = csv(tmp_path, "n\ttext\n01\ta red circle\n02\tü\n", "table.tsv")
    table = Table(path, "text", "n", [], tmp_path, text=True)
    assert list(table.ids()) == ["01", "02"]
    assert [item.load(MAX_BYTES) for item in table] == ["a red circle", "ü"]


def test_values_without_a_form_in_rows_become_texts(tmp_path: Path) -> None:
    path = parquet(tmp_path, file=["a"], tags=[["x", "y"]], when=pa.array([0], pa.timestamp("s")), ok=[True])
    (item,) = Table(path, "file", None, ["tags", "when", "ok"], tmp_path)
    assert item.columns == {"tags": "['x', 'y']", "when": "1970-01-01 00:00:00", "ok": True}


def test_many_rows_are_read_in_order(tmp_path: Path) -> None:
    path = parquet(tmp_path, file=[str(number) for number in range(1000)])
    assert [item.id for item in Table(path, "file", None, [], tmp_path)] == [str(number) for number in range(1000)]


@pytest.mark.parametrize(
    ("column", "ids", "columns", "missing"),
    [("none", None, [], "none"), ("file", "other", [], "other"), ("file", None, ["a"], "a")],
)
def test_a_column_that_is_missing(
    tmp_path: Path, column: str, ids: str | None, columns: list[str], missing: str
) -> None:
    path = csv(tmp_path, "file,name\nx,y\n")
    with pytest.raises(UsageError, match=f"table.csv has no column '{missing}'. It has: file, name."):
        Table(path, column, ids, columns, tmp_path)


def test_a_column_of_numbers(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'file' is of type int64\. Expected strings or binary values"):
        Table(parquet(tmp_path, file=[1]), "file", None, [], tmp_path)


def test_a_row_without_id(tmp_path: Path) -> None:
    table = Table(parquet(tmp_path, file=["a", None]), "file", None, [], tmp_path)
    with pytest.raises(UsageError, match="row 1 has no file, which is its id"):
        list(table.ids())


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.parquet", b"no parquet"),
        ("a.parquet", b""),
        ("a.csv", b""),
        ("a.csv", b"file,b\n1,2,3\n"),
        ("a.csv", b"file\n\xff\n"),
        ("a.csv", b"file,b\n" + b"x,1\n" * 400_000 + b"y,oops\n"),
    ],
)
def test_damaged_tables_are_refused_before_anything_is_embedded(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError, match=f"{name}: this table cannot be read"):
        list(Table(tmp_path / name, "file", None, ["b"] if b",b" in data else [], tmp_path).ids())


@pytest.mark.parametrize(
    ("data", "advice"),
    [
        (b"file,size\n" + b"".join(b"%d,1\n" % number for number in range(300_000)) + b"x,big\n", "one type"),
        (b"file,size\ncaf\xe9,1\n", "Save the file as UTF-8"),
        (b"file,size\nx,1\ny\n", "Give each row a value for each column"),
    ],
    ids=["types", "coding", "columns"],
)
def test_what_to_do_about_a_table(tmp_path: Path, data: bytes, advice: str) -> None:
    (tmp_path / "a.csv").write_bytes(data)
    with pytest.raises(UsageError, match=advice):
        list(Table(tmp_path / "a.csv", "file", None, ["size"], tmp_path).ids())


def test_a_table_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="this table cannot be read: "):
        Table(tmp_path / "a.parquet", "file", None, [], tmp_path)
