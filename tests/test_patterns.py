"""Regular expressions mean the same in every version of Python that the project supports."""

import ast
import re

import pytest

from tests.test_layout import MODULES, ROOT

# Of groups. Before 3.11.5 they match wrongly: https://github.com/python/cpython/issues/106052. Debian 12 has 3.11.2.
POSSESSIVE = re.compile(r"\)(?:[*+?]|\{\d*,?\d*\})\+")


def possessive_groups(source: str) -> list[str]:
    """The patterns of calls of `re` that have a possessive quantifier behind a group."""
    patterns = [
        argument.value if isinstance(argument.value, str) else argument.value.decode("latin-1")
        for call in ast.walk(ast.parse(source))
        if isinstance(call, ast.Call) and ast.unparse(call.func).startswith("re.")
        for argument in call.args[:1]
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str | bytes)
    ]
    return [pattern for pattern in patterns if POSSESSIVE.search(pattern)]


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_no_group_is_possessive(path: object) -> None:
    assert possessive_groups((ROOT / str(path)).read_text()) == []


@pytest.mark.parametrize("pattern", ["(?:ab?c)*+", "(a|b)++", "(?:a){1,3}+", "(a){2}+", "(a)?+"])
def test_those_that_are_would_be_noticed(pattern: str) -> None:
    assert possessive_groups(f"re.compile(rb{pattern!r})\nre.match({pattern!r}, 'a')") == [pattern, pattern]
    assert possessive_groups(f"regex.compile({pattern!r})") == []


def test_atomic_groups_are_right() -> None:
    """CPython's own test of the fault, of what is used instead."""
    assert [re.match(rf"(?>(?:ab?c){times})", "aca").span() for times in ("*", "+", "{1,3}")] == [(0, 2)] * 3  # type: ignore[union-attr]
