"""Check the prose of pages, docstrings and comments: `.venv/bin/python -m tests.prose`, a part of `make check`.

proselint finds clichés, repeated words and needless variants. A sentence may have `MAX_WORDS` words. Code, targets of
links and kept results of benchmarks are left out. typos checks the spelling; its vocabulary is in `pyproject.toml`.
"""

import ast
import io
import itertools
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from proselint.checks import __register__
from proselint.config import DEFAULT, Config
from proselint.registry import CheckRegistry
from proselint.tools import LintFile

ROOT: Final = Path(__file__).parent.parent
MAX_WORDS: Final = 30
# Straight quotes, "..." and "x" in 64x64 are how code writes them, and PM is a part of other words.
_OFF: Final = ("dates_times", "spelling", "typography")
_CONFIG: Final[Config] = {**DEFAULT, "checks": DEFAULT["checks"] | dict.fromkeys(_OFF, False)}
_LEFT_OUT: Final = re.compile(r"(^|/)results/|SOURCES\.md$")

_FENCE: Final = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_NEW_PARAGRAPH: Final = re.compile(r"\s*([-*]|\d+\.) |#|\s*$")
_SECTION_OR_ARGUMENT: Final = re.compile(r"\n\s*\n|\n(?=\s+\*{0,2}\w+: )")
_SENTENCE_END: Final = re.compile(r"(?<=[.!?:;])\s+")
_BETWEEN: Final = "\n\n---\n\n"  # parts paragraphs, so that no phrase goes on across two
_DRAWING: Final = re.compile(r"[├└│]|\+--|->|─")


class Paragraph(NamedTuple):
    """Prose without markup.

    Args:
        line: where it begins, from 1.
        text: its words, on one line.
    """

    line: int
    text: str


def of_page(page: str) -> Iterator[Paragraph]:
    """Yield the paragraphs, headings, list items and table cells of a page in Markdown."""
    lines = _FENCE.sub(lambda block: re.sub(r"[^\n]", "", block[0]), page).split("\n")
    begin, words = 1, list[str]()
    for number, line in enumerate([*lines, ""], 1):
        table = line.startswith("|")
        if words and (table or _NEW_PARAGRAPH.match(line) or words[0].startswith("#")):
            yield Paragraph(begin, _plain(" ".join(words)))
            words = []
        if table:
            yield from (Paragraph(number, _plain(cell)) for cell in line.strip("|").split(" | ") if cell.strip(" |-:"))
        elif line.strip() and not line.startswith("    "):
            begin = begin if words else number
            words.append(line.strip())


def of_module(source: str) -> Iterator[Paragraph]:
    """Yield the paragraphs of the docstrings and comments of a module of Python."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False)
            for text in _SECTION_OR_ARGUMENT.split(docstring or ""):
                if text.strip() and not _DRAWING.search(text):
                    yield Paragraph(node.body[0].lineno, _plain(text))
    yield from _comments(source)


def _comments(source: str) -> Iterator[Paragraph]:
    """Yield the comments. Those of adjacent lines in one column are one paragraph."""
    begin, words, last = 1, list[str](), (0, 0)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            if words and token.start != (last[0] + 1, last[1]):
                yield Paragraph(begin, _plain(" ".join(words)))
                words = []
            begin = begin if words else token.start[0]
            words.append(re.sub(r"^#+:? ?|(?:noqa|type|mypy).*", "", token.string))
            last = token.start
    if words:
        yield Paragraph(begin, _plain(" ".join(words)))


def _plain(text: str) -> str:
    """Return the text on one line, without links' targets and with `X` in place of code."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(text.split()))
    text = re.sub(r"`+[^`]*`+", "X", text)
    return re.sub(r"\*\*|<[^>]+>|https?://\S+", "", text)


def faults(paragraphs: list[Paragraph]) -> Iterator[tuple[int, str]]:
    """Yield what is wrong, with the line of its paragraph."""
    for line, text in paragraphs:
        for sentence in _SENTENCE_END.split(text):
            if (count := len(sentence.split())) > MAX_WORDS:
                yield line, f"a sentence of {count} words, more than {MAX_WORDS}: {sentence}"
    if any(text for _, text in paragraphs):
        # proselint takes two equal numbers, or two names of code, beside each other for a repeated word.
        number = itertools.count()
        content = _BETWEEN.join(
            re.sub(r"\bX\b|\d[\d.,]*", lambda _: f"#{next(number)}", text) for _, text in paragraphs
        )
        for found in LintFile("", content).lint(_CONFIG):
            at = content.count(_BETWEEN, 0, found.check_result.span[0])
            yield paragraphs[at].line, f"{found.check_result.check_path}: {found.check_result.message}"


def files() -> list[Path]:
    """Return the pages and modules of the checkout, as paths relative to it."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md", "*.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    return [Path(name) for name in listed if name and not _LEFT_OUT.search(name)]


def main() -> int:
    """Print all faults. Return 1 if there is one."""
    CheckRegistry().register_many(__register__)
    count = 0
    for path in files():
        text = (ROOT / path).read_text()
        for line, fault in faults(list(of_page(text) if path.suffix == ".md" else of_module(text))):
            count += 1
            sys.stdout.write(f"{path}:{line}: {fault}\n")
    return min(count, 1)


if __name__ == "__main__":
    sys.exit(main())
