"""What `pe-search` prints."""

import json

import pytest

from deploy.bulk.rows import EmbeddingSpace
from deploy.bulk.search.match import Match
from deploy.bulk.search.show import as_json, as_table

pytestmark = pytest.mark.bulk

MATCHES = [
    Match("a.png", 0.51239, {"size": 3, "note": None, "empty": None}),
    Match("b\x1b[31m\n.png", -0.1, {"size": None, "note": float("nan"), "empty": None}),
]


def test_a_table_has_a_line_for_each_match_and_nothing_that_a_terminal_obeys() -> None:
    assert as_table(MATCHES).splitlines() == [
        f"rank  similarity  {'id':15}  size  note",
        f"   1      0.5124  {'a.png':15}  3",
        "   2     -0.1000  b\\x1b[31m\\n.png        nan",
    ]
    assert as_table([]) == "Nothing matches."
    assert as_table([Match("a", 1, {"text": "x" * 100})]).endswith(" " + "x" * 57 + "...")


def test_json_is_valid_whatever_the_columns_hold() -> None:
    document = json.loads(as_json({"text": "ä"}, EmbeddingSpace("A@1", 8), MATCHES), parse_constant=pytest.fail)
    assert document["query"] == {"text": "ä"}
    assert document["embedding_space"] == "A@1"
    first, second = document["matches"]
    assert first == {
        "rank": 1,
        "similarity": 0.51239,
        "id": "a.png",
        "columns": {"size": 3, "note": None, "empty": None},
    }
    assert second["id"] == "b\x1b[31m\n.png"
    assert second["columns"]["note"] is None
