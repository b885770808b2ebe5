"""The columns of tables: their types, their names, and what is refused."""

from collections.abc import Mapping

import numpy as np
import pytest

from deploy.bulk.errors import OutputError, UsageError
from deploy.bulk.outputs.table_columns import (
    Kind,
    check_ids,
    check_names,
    check_space,
    fitted,
    kind_of,
    last_of_each_id,
    new_columns,
)
from deploy.bulk.rows import EmbeddingSpace, Row, Value

pytestmark = pytest.mark.bulk


def rows(*columns: Mapping[str, Value]) -> list[Row]:
    return [Row(str(number), np.ones(1, np.float32), None, values) for number, values in enumerate(columns)]


@pytest.mark.parametrize(
    ("value", "kind"),
    [(True, "bool"), (1, "int"), (-(2**63), "int"), (2**63, "text"), (1.0, "float"), ("1", "text")],
)
def test_the_kind_of_a_value(value: Value, kind: Kind) -> None:
    assert kind_of(value) == kind


@pytest.mark.parametrize(
    ("values", "kind"),
    [([1, None], "int"), ([1, 2.5], "float"), ([True, 1], "text"), ([1, "a"], "text"), ([False], "bool")],
)
def test_a_column_holds_all_of_its_values(values: list[Value], kind: Kind) -> None:
    assert new_columns(rows(*({"a": value} for value in values)), {}) == {"a": kind}


def test_a_column_without_values_waits_for_one() -> None:
    assert new_columns(rows({"a": None}), {}) == {}
    assert new_columns(rows({"a": 1}), {"a": "int"}) == {}


@pytest.mark.parametrize(("value", "column"), [("x", "int"), (1.5, "int"), (True, "int"), (1, "bool"), (1, None)])
def test_a_value_that_does_not_fit_is_refused(value: Value, column: Kind | None) -> None:
    with pytest.raises(OutputError, match=r"^0: a is .*, and the table's column a holds"):
        new_columns(rows({"a": value}), {"a": column})


@pytest.mark.parametrize(
    ("value", "column", "stored"),
    [(1, "float", 1.0), (1, "text", "1"), (True, "text", "true"), (None, "int", None), ("x", "text", "x")],
)
def test_a_value_gets_the_type_of_its_column(value: Value, column: Kind, stored: Value) -> None:
    found = fitted(value, column)
    assert (found, type(found)) == (stored, type(stored))


@pytest.mark.parametrize("name", ["id", "Embedding", "ERROR", "ctid", "", "a.b", "50%", "a\nb", "a\0", "ä" * 32])
def test_odd_names_of_columns_are_refused(name: str) -> None:
    with pytest.raises(OutputError, match="Rename the column"):
        check_names([name], ["ctid"], 63)


def test_other_names_of_columns_are_taken() -> None:
    check_names(["size", "Größe", "a b", 'a"; DROP TABLE x; --', "select", "ä" * 31], ["ctid"], 63)


@pytest.mark.parametrize("item_id", ["a\0b", "caf\udce9.jpg"])
def test_ids_that_no_database_stores_are_refused(item_id: str) -> None:
    with pytest.raises(OutputError, match="The id "):
        check_ids([Row("fine", None, "e"), Row(item_id, None, "e")])


def test_the_last_row_of_an_id_counts() -> None:
    found = last_of_each_id([Row("b", None, "1"), Row("a", None, "2"), Row("b", None, "3")])
    assert [(row.id, row.error) for row in found] == [("a", "2"), ("b", "3")]


def test_spaces() -> None:
    own = EmbeddingSpace("A@1", 8)
    check_space("The table t", EmbeddingSpace("A@1", 8), own)
    with pytest.raises(
        UsageError, match=r"The table t holds embeddings of B@2 \(8 numbers\)\. The server makes .* A@1"
    ):
        check_space("The table t", EmbeddingSpace("B@2", 8), own)
    with pytest.raises(UsageError, match="The table t was not made by pe-embed, so it is left as it is"):
        check_space("The table t", None, own)
