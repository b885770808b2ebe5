"""Where heads and bodies end in the bytes of a connection. The parser decides whether they are valid."""

from collections.abc import Iterable
from typing import Final

CHUNKED: Final = -1
EMPTY_LINE: Final = b"\r\n"

_END: Final = b"\r\n\r\n"
# Before a head. Old clients sent one after a body (RFC 9112, 2.2).
_MAX_EMPTY_LINES: Final = 8
# Bytes of a chunked body that are not its data: chunk sizes and extensions, and trailers. A body may have the first of
# these numbers, and for each chunk the second, and for each byte of data the third.
_MAX_OVERHEAD_BYTES: Final = 32 * 2**10
_OVERHEAD_BYTES_OF_CHUNK: Final = 16
_OVERHEAD_PER_BYTE: Final = 2
# The parser gets pieces of chunked bodies. A piece of chunks of one byte takes 2 ms.
_PIECE_BYTES: Final = 16 * 2**10


def head_bounds(data: bytes, position: int) -> tuple[int, int | None]:
    """Find the head that begins at a position, after a few empty lines.

    Returns:
        Where the head begins, and where it ends; None if it is not complete. If an empty line is where it begins, there
        are too many empty lines.
    """
    last = position + _MAX_EMPTY_LINES * len(EMPTY_LINE)
    while position < last and data.startswith(EMPTY_LINE, position):
        position += len(EMPTY_LINE)
    end = data.find(_END, position)
    return position, end + len(_END) if end >= 0 else None


def cannot_be_a_head(data: bytes) -> bool:
    """Whether the beginning of a head is already wrong, so that its end need not be waited for.

    TLS and other protocols do not begin with a letter. Lines must not end without a carriage return.
    """
    return data != b"\r" and (not data[:1].isalpha() or b"\n\n" in data)


def first_line(head: bytes) -> bytes:
    """Return the request line of a head, without its end."""
    return head[: head.find(b"\r\n")]


def body_length(headers: Iterable[tuple[bytes, bytes]], version: str) -> int | None:
    """Return the length in bytes that headers announce, which the parser has accepted.

    Returns:
        `CHUNKED`: the body is chunked. None: its framing is not supported.
    """
    for name, value in headers:
        if name == b"content-length":
            return int(value)
        if name == b"transfer-encoding":
            # HTTP/1.0 has no transfer codings. A proxy of that version could see another end of the message.
            return CHUNKED if value.strip().lower() == b"chunked" and version == "1.1" else None
    return None


class Chunks:
    """The framing of a chunked body that is not complete.

    Attributes:
        count: the chunks, or parts of chunks, that the parser has found.
    """

    def __init__(self) -> None:
        self._tail = b""
        self._overhead = 0
        self.count = 0

    def end_of_piece(self, data: bytes, position: int) -> int:
        """Return the position up to which data may be fed to the parser, without a byte of the next request.

        The body ends with an empty line, but not every empty line is its end.
        """
        end = min(len(data), position + _PIECE_BYTES)
        # The empty line may have begun in earlier data.
        across = (self._tail + data[position : position + 3]).find(_END)
        if across >= 0:
            end = position + across + len(_END) - len(self._tail)
        elif (found := data.find(_END, position, end)) >= 0:
            end = found + len(_END)
        self._tail = (self._tail + data[max(position, end - 3) : end])[-3:]
        return end

    def received(self, size: int) -> None:
        """Count bytes that the parser found to be the body's own."""
        self._overhead -= size * (1 + _OVERHEAD_PER_BYTE) + _OVERHEAD_BYTES_OF_CHUNK
        self.count += 1

    def has_too_much_overhead(self, size: int) -> bool:
        """Count bytes that were fed to the parser. Returns whether too few of them were the body's own."""
        self._overhead = max(0, self._overhead + size)
        return self._overhead > _MAX_OVERHEAD_BYTES
