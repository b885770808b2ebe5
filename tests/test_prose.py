"""The check of prose finds what it is for, and reads pages and modules as a reader does."""

import re
import textwrap

import pytest
from proselint.checks import __register__
from proselint.registry import CheckRegistry

from tests import prose
from tests.prose import Paragraph, faults, of_module, of_page


@pytest.fixture(autouse=True, scope="module")
def checks() -> None:
    CheckRegistry().register_many(__register__)


def found(text: str) -> list[str]:
    return [re.sub(r":.*", "", fault) for _, fault in faults([Paragraph(1, text)])]


def test_a_page_is_read_without_its_code() -> None:
    page = textwrap.dedent("""\
        # A heading
        Two lines of
        a [paragraph](page.md) with `code`.
        - an item
          that goes on
        - another

        ```bash
        very very
        ```

        | a head | b |
        | --- | --- |
        | **cell** | |
        The end.
        """)
    assert list(of_page(page)) == [
        (1, "# A heading"),
        (2, "Two lines of a paragraph with X."),
        (4, "- an item that goes on"),
        (6, "- another"),
        (12, "a head"),
        (12, "b"),
        (14, "cell"),
        (15, "The end."),
    ]


def test_a_module_is_read_by_its_docstrings_and_comments() -> None:
    source = textwrap.dedent('''\
        """The module.

        Its second paragraph.
        """
        # A comment
        # on two lines.
        x = "# no comment"  # Another one.


        def f() -> None:
            """Do it.

            Args:
                x: one thing.
                y: another thing.
            """
        ''')
    assert sorted(of_module(source)) == [
        (1, "Its second paragraph."),
        (1, "The module."),
        (5, "A comment on two lines."),
        (7, "Another one."),
        (11, "Args:"),
        (11, "Do it."),
        (11, "x: one thing."),
        (11, "y: another thing."),
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("It is is here.", "lexical_illusions"),
        ("A very long road.", "weasel_words.very"),
        ("At the end of the day it runs.", "cliches.misc.garner"),
        (
            " ".join(["word"] + [f"other{n}" for n in range(prose.MAX_WORDS)]) + ".",
            "a sentence of 31 words, more than 30",
        ),
    ],
)
def test_a_fault_is_found(text: str, fault: str) -> None:
    assert fault in found(text)


@pytest.mark.parametrize("text", ["It is here. Here it is.", "4 4 and 8 8", "X X", "64x64 and 'a' ... \"b\""])
def test_what_is_right_is_no_fault(text: str) -> None:
    assert found(text) == []


def test_the_line_is_that_of_the_paragraph() -> None:
    assert [line for line, _ in faults([Paragraph(3, "Well."), Paragraph(7, "It is is."), Paragraph(9, "End.")])] == [7]


def test_pages_and_modules_are_checked_and_results_are_not() -> None:
    names = {str(path) for path in prose.files()}
    assert {"README.md", "gateway/service.py", "tests/test_prose.py"} <= names
    assert not any("/results/" in name for name in names)
