"""Set the long strings of a JSON document aside while it arrives, so that what is left can be decoded in milliseconds.

An image in base64 can have 64 MB. To find its end takes a search in each piece of the body, and no copy of all of it.
"""

import asyncio
import json
import re
import secrets
from collections.abc import Sequence
from typing import Final

import msgspec

from gateway.errors import InvalidInput, PayloadTooLarge
from gateway.json_string import EscapedString, LongString

# Strings of more bytes than this are set aside: while the document is small, and once it is large. Texts are often
# shorter than the first bound, and thousands of them would make a document that takes long to decode.
_MAX_SHORT: Final = 2048
MAX_SHORT_ONCE_LARGE: Final = 96
# Each string takes about 0.1 µs of a decoder, and each name of an object 0.3 µs.
MAX_QUOTES: Final = 40_000
# Longer strings are not needed as `str` for anything but texts. URLs of this length are signed ones.
_MAX_URL: Final = 64 * 2**10
# JSON writes a character as 12 bytes at most: two escapes.
_BYTES_PER_CHARACTER: Final = 12

# From outside a string: everything up to a string that may be long, has many escapes or does not end here.
# Groups are atomic: before CPython 3.11.5, and so in Debian 12, a possessive quantifier of a group keeps what its last,
# unsuccessful attempt has read (https://github.com/python/cpython/issues/106052).
_SHORT_STRINGS: Final = re.compile(rb'(?>(?:[^"]++|"[^"\\]{0,1024}+(?>(?:\\.[^"\\]{0,62}+){0,16})")*)', re.DOTALL)
_SHORTER_STRINGS: Final = re.compile(rb'(?>(?:[^"]++|"[^"\\]{0,64}+(?>(?:\\.[^"\\]{0,14}+){0,2})")*)', re.DOTALL)
_TO_QUOTE: Final = re.compile(rb'[^"\\]*+(?>(?:\\.[^"\\]*+)*)', re.DOTALL)


class LongStrings:
    """The long strings of one document, by the placeholders that the document has in their place.

    Args:
        max_characters: of a text.
    """

    def __init__(self, max_characters: int) -> None:
        self._max_characters = max_characters
        self._strings: dict[str, LongString] = {}
        self._nonce = ""  # Most documents have no long string, and need none.

    def add(self, content: bytearray, escaped: bool) -> bytes:
        """Keep a string.

        Args:
            content: what is between the quotes.
            escaped: whether `content` has escapes.

        Returns:
            The placeholder's bytes.
        """
        if not self._nonce:
            # Nobody can guess the placeholders, so no client can write one.
            self._nonce = secrets.token_hex(16)
        placeholder = f"long string {len(self._strings)} {self._nonce}"
        self._strings[placeholder] = EscapedString(content) if escaped else content
        return placeholder.encode()

    async def payload(self, value: str) -> str | LongString:
        """The string of the document that `value` stands for, as `str` if it may be a URL.

        Other callbacks run before it is decoded: a document may have a thousand of them.
        """
        string = self._strings.get(value)
        if string is None:
            return value
        if len(_content(string)) > _MAX_URL:
            return string
        await asyncio.sleep(0)
        return _decode(_content(string))

    async def texts(self, values: Sequence[str]) -> list[str]:
        """The strings of the document that `values` stand for. Other callbacks run between long ones.

        Raises:
            InvalidInput: a string is longer than a text may be, or is not UTF-8.
        """
        return [await self._text(value) for value in values] if self._strings else list(values)

    async def _text(self, value: str) -> str:
        string = self._strings.get(value)
        if string is None:
            return value
        content = _content(string)
        if len(content) > self._max_characters * _BYTES_PER_CHARACTER:
            raise InvalidInput(f"A text is too long; at most {self._max_characters} characters are allowed.")
        await asyncio.sleep(0)
        return _decode(content)

    def start(self, value: str, length: int) -> str:
        """The first `length` characters of the string that `value` stands for, if they are ASCII."""
        string = self._strings.get(value)
        if string is None:
            return value[:length]
        # An escaped slash takes two bytes.
        return _content(string)[: 2 * length].replace(rb"\/", b"/").decode("latin-1")[:length]


class Splitter:
    """Divide a document, fed in pieces, into long strings and the rest.

    Args:
        strings: keeps the long strings.
        large: bytes of the rest beyond which it keeps only strings of up to `MAX_SHORT_ONCE_LARGE`.
        max_rest: bytes of the rest.

    Attributes:
        rest: the document with placeholders.
    """

    def __init__(self, strings: LongStrings, large: int, max_rest: int) -> None:
        self._strings = strings
        self._large = large
        self._max_rest = max_rest
        self.rest = bytearray()
        self._quotes = 0
        self._string: bytearray | None = None  # the string that has not ended yet
        self._has_escapes = False
        self._in_escape = False

    def feed(self, data: bytes | bytearray) -> None:
        """Take the next piece. Time is linear in its size: 0.3 µs a byte in the worst case, 0.1 ns for base64.

        Raises:
            PayloadTooLarge: the rest is too long, or has too many strings.
        """
        at = 0
        while at < len(data):
            at = self._outside(data, at) if self._string is None else self._inside(self._string, data, at)

    def _outside(self, data: bytes | bytearray, start: int) -> int:
        """Keep short strings and what is between them. Returns where the next string's content begins, or the end."""
        pattern = _SHORTER_STRINGS if len(self.rest) > self._large else _SHORT_STRINGS
        match = pattern.match(data, start)
        assert match is not None, "the pattern matches nothing, too"
        self._keep(match.group())
        if match.end() == len(data):
            return match.end()
        self._string, self._has_escapes = bytearray(), False
        return match.end() + 1

    def _inside(self, string: bytearray, data: bytes | bytearray, start: int) -> int:
        """Take more of a string that has begun. Returns where what follows it begins, or the end of the data."""
        at = start
        if self._in_escape:
            at, self._in_escape = at + 1, False
        end = data.find(b'"', at)
        end = len(data) if end < 0 else end
        if data.find(b"\\", at, end) >= 0:
            self._has_escapes = True
            if _ends_in_escape(data, at, end):
                # Either the piece ends within an escape, or the quote is escaped and the string goes on.
                match = _TO_QUOTE.match(data, at)
                assert match is not None, "the pattern matches nothing, too"
                end = match.end()
                if data[end : end + 1] == b"\\":  # the last byte
                    self._in_escape = True
                    end += 1
        string += memoryview(data)[start:end]
        if end == len(data):
            return end
        max_short = MAX_SHORT_ONCE_LARGE if len(self.rest) > self._large else _MAX_SHORT
        content = string if len(string) <= max_short else self._strings.add(string, self._has_escapes)
        self._keep(b'"' + content + b'"')
        self._string = None
        return end + 1

    def _keep(self, data: bytes | bytearray) -> None:
        self.rest += data
        self._quotes += quotes(data)
        if len(self.rest) > self._max_rest:
            raise PayloadTooLarge(f"Without its long strings, a JSON document may have {self._max_rest} bytes.")
        if self._quotes > MAX_QUOTES:
            raise PayloadTooLarge(f"Without its long strings, a JSON document may have {MAX_QUOTES // 2} strings.")


def quotes(data: bytes | bytearray) -> int:
    """Count the quotes that begin or end strings. An escaped quote counts only behind an escaped backslash."""
    return data.count(b'"') - data.count(b'\\"') + data.count(b'\\\\"')


def _ends_in_escape(data: bytes | bytearray, start: int, end: int) -> bool:
    piece = data[start:end]
    return (len(piece) - len(piece.rstrip(b"\\"))) % 2 == 1


def _content(string: LongString) -> bytes | bytearray:
    return string.content if isinstance(string, EscapedString) else string


def _decode(content: bytes | bytearray) -> str:
    quoted = b'"' + content + b'"'
    try:
        return msgspec.json.decode(quoted, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass  # Lone surrogates are strings to Python, and so to the incumbent.
    try:
        text: str = json.loads(quoted, strict=False)
    except ValueError:
        raise InvalidInput("A string of the JSON document is malformed.") from None
    return text
