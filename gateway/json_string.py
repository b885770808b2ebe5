"""Long strings of JSON documents, as bytes: decoding 64 MB at once would take a tenth of a second of Python's lock."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EscapedString:
    """The content of a JSON string that has escapes, without its quotes."""

    content: bytes | bytearray


LongString = bytes | bytearray | EscapedString
"""A long string: its bytes if it has no escapes."""
