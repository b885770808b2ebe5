"""Long strings of JSON documents, as bytes: decoding 64 MB at once would take a tenth of a second of Python's lock."""

import json
import re
from dataclasses import dataclass
from typing import Final

# At most 512 escapes or runs of 256 bytes, so that one piece takes about a millisecond.
_PIECE: Final = re.compile(rb"(?:[^\\]{1,256}+|\\u[0-9A-Fa-f]{4}|\\[^u]){1,512}+", re.DOTALL)
_DECODER: Final = json.JSONDecoder(strict=False)


@dataclass(frozen=True, slots=True)
class EscapedString:
    """The content of a JSON string that has escapes, without its quotes."""

    content: bytes | bytearray

    def ascii(self) -> bytes:
        """Decode the escapes of a string of ASCII characters. Other threads run between pieces of the string.

        Raises:
            ValueError: the string has other characters, or an escape that JSON does not know.
        """
        pieces: list[bytes] = []
        end = 0
        while end < len(self.content):
            if (match := _PIECE.match(self.content, end)) is None:
                raise ValueError("invalid escape in a JSON string")
            # Some encoders write each slash of base64 as `\/`.
            piece = match.group().replace(rb"\/", b"/")
            if not piece.isascii():
                raise ValueError("a character that is not ASCII")
            if b"\\" in piece:
                piece = _DECODER.decode(f'"{piece.decode("ascii")}"').encode("ascii")
            pieces.append(piece)
            end = match.end()
        return b"".join(pieces)


LongString = bytes | bytearray | EscapedString
"""A long string: its bytes if it has no escapes."""
