"""uvicorn's HTTP/1.1 protocol, with bounds on what one connection may send, hold and wait for.

uvicorn feeds its parser whatever arrives. It thereby keeps heads and trailers of any size, begins any number of
pipelined requests, and waits without limit for heads and for clients that do not read. Here, the parser gets one
request at a time: its head when the head is complete, then its body.
"""

import asyncio
import math
import re
from http import HTTPStatus
from typing import Any, Final

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.http.connections import INVALID, Connections, Wait
from gateway.http.framing import CHUNKED, EMPTY_LINE, Chunks, body_length, cannot_be_a_head, first_line, head_bounds
from gateway.http.response_transport import ResponseTransport

MAX_HEAD_BYTES: Final = 64 * 2**10
_MAX_HEADERS: Final = 128
# Bytes of later requests that are kept while an earlier one is answered. At more, the connection is not read.
_MAX_HELD_BYTES: Final = 64 * 2**10
# A request can be answered before its body has arrived, because its head was refused. If the server closed the
# connection at once, the client would see a broken connection instead of the response. So the server reads on for this
# time and this size.
_REST_SECONDS: Final = 30.0
_REST_BYTES_AFTER_ERROR: Final = 2**20
# HTTP/2 by `Upgrade: h2c`, and WebSocket. A server that ignores the header declines the offer (RFC 9110, 7.8).
_UPGRADE: Final = re.compile(rb"\r\nupgrade:[^\r\n]*", re.IGNORECASE)

# One read of a socket can have 40,000 chunks of one byte. The parser takes 1 ms for so many.
_CHUNKS_AT_ONCE: Final = 2_000

_NO_HTTP: Final = "Invalid HTTP request received."


class Protocol(HttpToolsProtocol):
    """One connection of a client.

    Args:
        registry: knows all connections of the process.
    """

    def __init__(self, *arguments: Any, registry: Connections, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._registry = registry
        registry.idle.seconds = self.timeout_keep_alive
        self._wait: Wait | None = None
        self._held = b""  # begins with the head of the next request
        self._in_message = False  # whether the parser has begun a request, and not ended it
        self._had_request = False
        self._body_left = 0  # bytes of the request's body, or `CHUNKED`
        self._chunks: Chunks | None = None
        self._declining_upgrade = False
        # After `_closing`, no request is read. After `_closed`, nothing is read.
        self._closing = self._closed = False
        # The rest of a body whose request is answered: when the wait for it began, its bytes so far, and their limit.
        self._rest_began = 0.0
        self._rest_bytes = 0
        self._rest_limit: float = 0
        self._unread_bytes = 0  # of a response, when the wait for its reader began

    # -- The connection
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        self._socket = transport
        self._responses = ResponseTransport(transport, self)
        super().connection_made(self._responses)
        self.flow = self._flow = _Flow(self.transport)
        if self._registry.add(self, self.loop):
            self._update_wait()
        else:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = self._closed = True
        self._registry.discard(self)
        self._wait_for(None)
        self._held = b""
        super().connection_lost(exc)

    def close(self) -> None:
        """Close the connection after the responses that are written. A body that still arrives is read and ignored."""
        if self._closing:
            return
        self._closing = True
        self._held = b""
        self._responses.send_head()
        if self._in_message:
            self._socket.write_eof()
            self._flow.hold(False)
            self._flow.resume_reading()
        else:
            self._close_now()
        self._update_wait()

    def abort(self) -> None:
        """Close the connection now, whatever it has left to send."""
        self._closing = self._closed = True
        self._wait_for(None)
        self._socket.abort()

    def time_out(self) -> None:
        """End the connection's wait."""
        wait, self._wait = self._wait, None
        assert wait is not None
        if wait is self._registry.unread and (left := self._socket.get_write_buffer_size()) < self._unread_bytes:
            self._unread_bytes = left
            self._update_wait()
            return
        self._registry.count_closed(wait.reason)
        if wait is self._registry.unread:
            self.abort()
        else:
            self._close_now()
            self._update_wait()

    def _close_now(self) -> None:
        self._closing = self._closed = True
        self._held = b""
        self._socket.close()

    # -- What arrives
    def data_received(self, data: bytes) -> None:
        if self._closing:
            self._read_rest(len(data))
            return
        if self._wait is self._registry.rest:
            self._read_rest(len(data))
        if self._held:
            data, self._held = self._held + data, b""
        self._read(data)
        self._update_wait()

    def _read(self, data: bytes) -> None:
        """Feed the parser what belongs to the current request, and hold what comes after it."""
        position, size = 0, len(data)
        had = self._chunks.count if self._chunks is not None else 0
        while position < size and not self._closing:
            if self._body_left:
                position = self._read_body(data, position)
                if self._chunks is not None and self._chunks.count - had > _CHUNKS_AT_ONCE and position < size:
                    self.loop.call_soon(self._read_on)
                    self._held = data[position:]
                    self._flow.hold(True)
                    return
            elif self._is_busy:
                break
            else:
                position, end = head_bounds(data, position)
                if data.startswith(EMPTY_LINE, position):
                    self._refuse(HTTPStatus.BAD_REQUEST, _NO_HTTP)
                elif (end or size) - position > MAX_HEAD_BYTES:
                    self._refuse_large_head(data[position : position + MAX_HEAD_BYTES])
                elif end is not None:
                    self._read_head(data[position:end])
                    position = end
                else:
                    if position < size and cannot_be_a_head(data[position:]):
                        self._refuse(HTTPStatus.BAD_REQUEST, _NO_HTTP)
                    break
        if position < size and not self._closing:
            self._held = data[position:]
            self._flow.hold(len(self._held) > _MAX_HELD_BYTES)

    def _read_on(self) -> None:
        """Read what is held of a body, after other callbacks have run."""
        if self._held and not self._closing:
            held, self._held = self._held, b""
            self._flow.hold(False)
            self._flow.resume_reading()
            self._read(held)
            self._update_wait()

    def _queue_held(self) -> None:
        if self._held and not self._closing:
            self._registry.queue_pipelined(self, self.loop)

    def read_pipelined(self) -> None:
        """Begin the next request, if it has arrived already."""
        if not self._is_busy:
            self._read_on()

    def _read_head(self, head: bytes) -> None:
        """Feed the parser a head, and learn where the body ends. Refuse what the app should not see."""
        if head.count(b"\r\n") > _MAX_HEADERS + 2:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"At most {_MAX_HEADERS} headers are allowed.")
            return
        if b" HTTP/1." not in first_line(head)[-9:]:
            self._refuse(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "This server speaks HTTP/1.1 and HTTP/1.0.")
            return
        try:
            self.parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            self._decline_upgrade(head)
        except httptools.HttpParserError:
            self._refuse(HTTPStatus.BAD_REQUEST, _NO_HTTP)
        if self._in_message and not self._closing:
            length = body_length(self.scope["headers"], self.scope["http_version"])
            if length is None:
                self._refuse(HTTPStatus.NOT_IMPLEMENTED, "The only transfer coding that this server reads is chunked.")
                return
            self._body_left = length
            self._chunks = Chunks() if length == CHUNKED else None

    def _decline_upgrade(self, head: bytes) -> None:
        """Parse a head again without its Upgrade header, after which the parser would not read the body."""
        self.parser = httptools.HttpRequestParser(self)
        try:
            self.parser.feed_data(_UPGRADE.sub(b"", head))
        except (httptools.HttpParserUpgrade, httptools.HttpParserError):  # Upgrade: CONNECT
            self._refuse(HTTPStatus.BAD_REQUEST, _NO_HTTP)

    def _read_body(self, data: bytes, position: int) -> int:
        """Feed the parser a piece of the body. Returns the position after it."""
        chunks = self._chunks
        if chunks is None:
            end = min(len(data), position + self._body_left)
            self._body_left -= end - position
        else:
            end = chunks.end_of_piece(data, position)
        try:
            self.parser.feed_data(data[position:end])
        except httptools.HttpParserError:
            self._refuse(HTTPStatus.BAD_REQUEST, _NO_HTTP)
        else:
            if chunks is not None and chunks.has_too_much_overhead(end - position):
                self._refuse(HTTPStatus.BAD_REQUEST, "The body has too many bytes of chunk extensions or trailers.")
                self._rest_limit = 0  # No honest client sends more of them while it reads the response.
        return end

    def _read_rest(self, size: int) -> None:
        """Ignore bytes of a client that has its response, for a limited time."""
        if self._closed or self._wait is not self._registry.rest:
            return
        self._rest_bytes += size
        if self.loop.time() - self._rest_began > _REST_SECONDS or self._rest_bytes > self._rest_limit:
            self._registry.count_closed(self._registry.rest.reason)
            self._close_now()
            self._update_wait()
        else:
            self._registry.rest.since[self] = self.loop.time()
            self._registry.rest.since.move_to_end(self)

    # -- Responses that are not the app's
    def _refuse_large_head(self, beginning: bytes) -> None:
        if b"\r\n" in beginning:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The request's head is too large.")
        else:
            self._refuse(HTTPStatus.REQUEST_URI_TOO_LONG, "The request's target is too long.")

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """Respond to what is not a request, and close the connection."""
        if self._closing:
            return
        self._registry.count_closed(INVALID)
        cycle = self._current
        if cycle is not None:
            cycle.disconnected = True
            cycle.message_event.set()
        self._in_message = True  # What the client goes on to send is not a request.
        self._rest_limit = _REST_BYTES_AFTER_ERROR
        if cycle is None or not cycle.response_started:
            self._socket.write(
                f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: text/plain; charset=utf-8\r\n"
                f"content-length: {len(message)}\r\nconnection: close\r\n\r\n{message}".encode()
            )
        self.close()

    # -- What the parser finds
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_message = self._had_request = True
        self._rest_limit = math.inf

    def on_headers_complete(self) -> None:
        self._declining_upgrade = self.parser.should_upgrade()
        if not self._declining_upgrade:
            super().on_headers_complete()
            self.headers = []  # Trailers must not become headers of the request.

    def on_body(self, body: bytes) -> None:
        if self._chunks is not None:
            self._chunks.received(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_message = False
        self._body_left = 0
        self._chunks = None
        if not self._declining_upgrade:
            super().on_message_complete()

    # -- Responses
    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        self._responses.end()
        if not self._closing:
            self.flow.resume_reading()
            self._queue_held()
            self._update_wait()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._update_wait()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._queue_held()
        self._update_wait()

    # -- What the connection waits for
    @property
    def is_closing(self) -> bool:
        """Whether no more requests are read."""
        return self._closing

    @property
    def _current(self) -> RequestResponseCycle | None:
        """The request that the app works for."""
        latest: RequestResponseCycle | None = self.cycle
        return None if latest is None or latest.response_complete else latest

    @property
    def _is_busy(self) -> bool:
        """Whether the next request has to wait for the current one."""
        return self._current is not None or self.flow.write_paused

    def _update_wait(self) -> None:
        """Note what the connection now waits for."""
        registry = self._registry
        if self._closed or self.flow.write_paused:
            wait: Wait | None = registry.unread
        elif self._closing:
            wait = registry.rest
        elif self._current is not None:
            wait = None
        elif self._in_message:
            wait = registry.rest
        elif self._held or not self._had_request:
            wait = registry.head
        else:
            wait = registry.idle
        if wait is not self._wait:
            self._wait_for(wait)

    def _wait_for(self, wait: Wait | None) -> None:
        if self._wait is not None:
            self._wait.since.pop(self, None)
        self._wait = wait
        if wait is None:
            return
        wait.since[self] = now = self.loop.time()
        if wait is self._registry.unread:
            self._unread_bytes = self._socket.get_write_buffer_size()
        elif wait is self._registry.rest:
            self._rest_began, self._rest_bytes = now, 0


class _Flow(FlowControl):
    """uvicorn's flow control, which reads on for any reason only if there is room for what arrives."""

    _holding = False

    def hold(self, holding: bool) -> None:
        """Say whether there is no room."""
        self._holding = holding
        if holding:
            self.pause_reading()

    def resume_reading(self) -> None:
        if not self._holding:
            super().resume_reading()
