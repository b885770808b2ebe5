"""Edits of a YAML document's text by path. Comments, anchors and the order of keys stay as they are in the file."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import yaml

_INDENT: Final = 2


@dataclass
class _Entry:
    """A value of a mapping, or an item of a sequence."""

    key: int
    """Offset of the key, or of the hyphen of an item of a block sequence."""
    start: int
    """Offset at which the value's text starts. For a value of a mapping, this is right after the colon."""
    end: int = 0
    """Offset after the value's last character, without a comment."""
    scalar: str | None = None
    """The value, if it is a scalar."""
    children: dict[str, "_Entry"] = field(default_factory=dict)
    """Entries of a mapping by key, or of a sequence by index."""


class Document:
    """One YAML document, whose text is changed at paths.

    A path is a JSON pointer: "/spec/ports/0/port". A slash within a key is "~1".
    """

    def __init__(self, text: str) -> None:
        self._text = text
        # Offset, end of the replaced text, replacement. Offsets are those of the original text.
        self._edits: list[tuple[int, int, str]] = []
        self._events: Iterator[yaml.Event] = iter(yaml.parse(text))
        self._anchors: dict[str, _Entry] = {}
        while not isinstance(next(self._events), yaml.MappingStartEvent):
            pass
        self._root = _Entry(0, 0)
        self._read_mapping(self._root)

    def paths(self) -> Iterator[str]:
        """Yield the paths of all entries."""

        def below(entry: _Entry, prefix: str) -> Iterator[str]:
            for name, child in entry.children.items():
                path = f"{prefix}/{name.replace('/', '~1')}"
                yield path
                yield from below(child, path)

        yield from below(self._root, "")

    def scalar(self, path: str) -> str | None:
        """Return the text of a scalar, or None for a collection."""
        return self._find(path).scalar

    def put(self, path: str, text: str) -> None:
        """Replace a value by the text of another value, on the line of its key."""
        entry = self._find(path)
        self._edits.append((entry.start, entry.end, f" {text}"))

    def put_below(self, path: str, *lines: str) -> None:
        """Replace a value, and the comment on its last line, by lines that are indented below its key."""
        entry = self._find(path)
        indent = " " * self.indent_below(path)
        end = self._next_line(entry.end) - 1
        self._edits.append((entry.start, end, "".join(f"\n{indent}{line}" for line in lines)))

    def insert(self, path: str, *lines: str) -> None:
        """Insert lines before an entry, above the entry's comment."""
        entry = self._find(path)
        start = self._above(entry)
        indent = " " * self._column(entry)
        self._edits.append((start, start, "".join(f"{indent}{line}\n" for line in lines)))

    def when(self, path: str, condition: str) -> None:
        """Enclose an entry and its comment in a condition of a template."""
        entry = self._find(path)
        end = self._next_line(entry.end)
        self.insert(path, f"{{{{- if {condition} }}}}")
        self._edits.append((end, end, f"{' ' * self._column(entry)}{{{{- end }}}}\n"))

    def drop(self, path: str) -> None:
        """Remove an entry and its comment."""
        entry = self._find(path)
        self._edits.append((self._above(entry), self._next_line(entry.end), ""))

    def indent_below(self, path: str) -> int:
        """Return the number of spaces before the lines below an entry."""
        return self._column(self._find(path)) + _INDENT

    def edited(self) -> str:
        """Return the changed text."""
        pieces = []
        position = 0
        # The sort keeps the order of insertions at one offset.
        for start, end, replacement in sorted(self._edits, key=lambda edit: edit[:2]):
            pieces += [self._text[position:start], replacement]
            position = end
        return "".join([*pieces, self._text[position:]])

    def _find(self, path: str) -> _Entry:
        """Return the entry at a path.

        Raises:
            KeyError: the document has no such path.
        """
        entry = self._root
        for name in path.split("/")[1:]:
            if (key := name.replace("~1", "/")) not in entry.children:
                raise KeyError(f"{path}: there is no {key}")
            entry = entry.children[key]
        return entry

    def _column(self, entry: _Entry) -> int:
        return entry.key - (self._text.rfind("\n", 0, entry.key) + 1)

    def _next_line(self, offset: int) -> int:
        return self._text.find("\n", offset) + 1 or len(self._text)

    def _above(self, entry: _Entry) -> int:
        """Return where an entry's line starts, or the first line of the comment directly above the entry."""
        start = entry.key - self._column(entry)
        while start and re.fullmatch(r" *#.*\n", line := self._text[self._text.rfind("\n", 0, start - 1) + 1 : start]):
            start -= len(line)
        return start

    def _read_mapping(self, parent: _Entry) -> yaml.Event:
        """Read the entries of a mapping, and return the event that ends it."""
        while isinstance(key := next(self._events), yaml.ScalarEvent):
            entry = _Entry(key.start_mark.index, key.end_mark.index + 1)
            self._read_value(entry, next(self._events))
            parent.children[key.value] = entry
        return key

    def _read_sequence(self, parent: _Entry) -> yaml.Event:
        """Read the items of a sequence, and return the event that ends it."""
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            start = event.start_mark.index
            hyphen = self._text.rfind("-", self._text.rfind("\n", 0, start) + 1, start)
            entry = _Entry(hyphen if hyphen >= 0 else start, start)
            self._read_value(entry, event)
            parent.children[str(len(parent.children))] = entry
        return event

    def _read_value(self, entry: _Entry, event: yaml.Event) -> None:
        entry.end = event.end_mark.index
        if isinstance(event, yaml.AliasEvent):
            entry.children = self._anchors[event.anchor].children
            return
        if isinstance(event, yaml.ScalarEvent):
            entry.scalar = event.value
        elif isinstance(event, yaml.CollectionStartEvent):
            read = self._read_mapping if isinstance(event, yaml.MappingStartEvent) else self._read_sequence
            ending = read(entry)
            # A block collection ends where the text of the next entry starts, after the comments between the two.
            entry.end = ending.end_mark.index if event.flow_style else list(entry.children.values())[-1].end
        if event.anchor:
            self._anchors[event.anchor] = entry
