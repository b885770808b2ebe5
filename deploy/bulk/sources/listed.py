"""A list of paths and URLs, or of texts, from arguments, a file or the standard input."""

import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from deploy.bulk.errors import UsageError
from deploy.bulk.sources import files
from deploy.bulk.sources.item import Content, Item

STANDARD_INPUT: Final = "-"


class Listed:
    """What a list names, in its order. A line that occurs again is left out.

    Args:
        values: paths, URLs or texts.
        description: of the list.
        root: the folder that relative paths begin in.
        text: values are texts.

    Attributes:
        repeated: how many lines were left out.
    """

    def __init__(self, values: Sequence[str], description: str, root: Path, *, text: bool = False) -> None:
        self._values = list(dict.fromkeys(values))
        self.repeated = len(values) - len(self._values)
        self.description = description
        self._root = root
        self._text = text

    @classmethod
    def read(cls, name: str, root: Path, *, text: bool = False) -> "Listed":
        """Read a file with one value a line, or the standard input for `-`. Empty lines are left out.

        Raises:
            UsageError: it cannot be read.
        """
        try:
            data = sys.stdin.buffer.read() if name == STANDARD_INPUT else Path(name).read_bytes()
        except OSError as error:
            raise UsageError(f"{name}: this list cannot be read: {error.strerror}.") from None
        # File names are bytes, so a list of them may be no UTF-8.
        lines = [os.fsdecode(line.removesuffix(b"\r")) for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n")]
        kind = "texts" if text else "files"
        where = "standard input" if name == STANDARD_INPUT else f"list {files.printable(os.path.realpath(name))}"
        return cls([line for line in lines if line.strip()], f"{kind} of the {where}", root, text=text)

    def ids(self) -> Iterator[str]:
        """See `Source`. An id is the line itself."""
        return (files.printable(value) for value in self._values)

    def __iter__(self) -> Iterator[Item]:
        """See `Source`."""
        for value in self._values:
            yield Item(files.printable(value), self._load(value))

    def _load(self, value: str) -> partial[Content]:
        if self._text:
            return partial(_text, value)
        return partial(of_value, value, self._root)


def of_value(value: str, root: Path, max_bytes: int) -> Content:
    """Load what a path or a URL names. A relative path begins in `root`. Errors: as for `files.load`, `files.fetch`."""
    return files.fetch(value, max_bytes) if files.is_url(value) else files.load(root / value, max_bytes)


def _text(value: str, max_bytes: int) -> Content:
    return files.content(os.fsencode(value), max_bytes, text=True)
