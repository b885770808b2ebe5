"""Decompress bodies with a Content-Encoding, in pieces, within the limits of bodies."""

import asyncio
import zlib
from typing import Final

from starlette.types import Message, Receive, Scope

from gateway.errors import InvalidInput, PayloadTooLarge, UnsupportedEncoding
from gateway.in_flight import RequestReservation

ACCEPTED: Final = ("gzip", "deflate")

_IDENTITY: Final = "identity"
_ALIASES: Final = {"x-gzip": "gzip"}
# zlib's numbers for the formats that it reads.
_GZIP, _ZLIB, _RAW = 31, 15, -15
# Of this length, headers of blocks without content take zlib 1.4 ms. The output of one call takes as long.
_INPUT_BYTES: Final = 8 * 2**10
_OUTPUT_BYTES: Final = 256 * 2**10
# A member can have as little as 20 bytes, and takes microseconds. Programs that write several begin one every 64 kB.
_MAX_MEMBERS: Final = 2048


def coding_of(scope: Scope) -> str | None:
    """The coding to undo; None for a body without one.

    Raises:
        UnsupportedEncoding: the coding is another one, or there are several.
    """
    values = [value.decode("latin-1") for name, value in scope["headers"] if name == b"content-encoding"]
    if not values:
        return None
    names = [name for value in ",".join(values).lower().split(",") if (name := value.strip()) not in ("", _IDENTITY)]
    if not names:
        return None
    coding = _ALIASES.get(names[0], names[0])
    if len(names) > 1 or coding not in ACCEPTED:
        sent = ", ".join(names)[:64]
        raise UnsupportedEncoding(
            f"Bodies with `Content-Encoding: {sent}` are not read. Send gzip, deflate, or the body as it is."
        )
    return coding


def decoded(receive: Receive, coding: str, reservation: RequestReservation, max_bytes: int) -> Receive:
    """Receive the decompressed body.

    Args:
        receive: receives the body as it was sent.
        coding: as `coding_of` returns it.
        reservation: holds as many bytes as the larger of the two forms of the body.
        max_bytes: of the decompressed body.

    Returns:
        A `receive` that raises `InvalidInput` for data that is damaged or incomplete, `PayloadTooLarge` as soon as the
        data has more than `max_bytes`, and `Overloaded` if the byte budget is exhausted.
    """
    decompressor = _Decompressor(coding)
    size = 0
    more = True

    async def receive_decoded() -> Message:
        nonlocal size, more
        while True:
            piece = decompressor.next_piece()
            if piece:
                size += len(piece)
                if size > max_bytes:
                    raise PayloadTooLarge(
                        f"The request's body is larger than the {max_bytes} bytes allowed when it is decompressed."
                    )
                reservation.hold(size)
                await asyncio.sleep(0)
                return {"type": "http.request", "body": piece, "more_body": True}
            if decompressor.has_input:
                await asyncio.sleep(0)
            elif more:
                message = await receive()
                if message["type"] != "http.request":
                    return message
                more = message.get("more_body", False)
                decompressor.feed(message.get("body", b""))
            elif not decompressor.finished:
                decompressor.finish()
                return {"type": "http.request", "body": b"", "more_body": False}
            else:
                return await receive()

    return receive_decoded


class _Decompressor:
    """Decompress what is fed, a piece a call.

    Attributes:
        finished: whether the end of the body was announced.
    """

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._data = memoryview(b"")
        self._at = 0
        self._tail = b""
        self._member: zlib._Decompress | None = None
        self._members = 0
        self.finished = False

    def feed(self, data: bytes) -> None:
        """Take the next input. The input before it has been used up."""
        self._data, self._at = memoryview(data), 0

    @property
    def has_input(self) -> bool:
        """Whether there is input that `next_piece` has not looked at."""
        return self._at < len(self._data) or bool(self._tail)

    def next_piece(self) -> bytes:
        """The next piece of the output, which may be empty although there is more.

        Raises:
            InvalidInput: the input is damaged.
        """
        if not self._tail:
            self._tail = bytes(self._data[self._at : self._at + _INPUT_BYTES])
            self._at += len(self._tail)
        try:
            return self._decompress(self._tail)
        except zlib.error:
            raise self._damaged() from None

    def finish(self) -> None:
        """Announce the end of the body.

        Raises:
            InvalidInput: the data is incomplete.
        """
        self.finished = True
        if self._member is not None and not self._member.eof:
            raise self._damaged()

    def _decompress(self, data: bytes) -> bytes:
        """Decompress some input, and keep what is not used yet as `_tail`. Where a member has ended, begin the next."""
        if self._member is None or self._member.eof:
            if not data:
                return b""
            self._members += 1
            if self._members > (_MAX_MEMBERS if self._coding == "gzip" else 1):
                raise self._damaged()
            self._member = zlib.decompressobj(self._format(data))
        piece = self._member.decompress(data, _OUTPUT_BYTES)
        self._tail = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
        return piece

    def _format(self, data: bytes) -> int:
        if self._coding == "gzip":
            return _GZIP
        # Some clients send deflate without zlib's header, which begins with the number of its method, 8.
        return _ZLIB if data[0] & 0x0F == 8 else _RAW

    def _damaged(self) -> InvalidInput:
        return InvalidInput(
            f"The body is damaged or incomplete: it is not {self._coding}, as its Content-Encoding says."
        )
