"""Admission of requests by their heads, before their bodies are read.

The checks come in this order:

1. The query is not too long.
2. The process is not stopping.
3. There is room for one more request.
4. The body is not too long, and there is room for it.
5. The API key is known.
6. The body's coding can be undone.

What the head does not say is checked while the body arrives.
"""

import math
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.concurrency import CancelScope
from gateway.errors import DeadlineExceeded, GatewayError, InvalidInput, PayloadTooLarge, Stopping
from gateway.http.content_encoding import coding_of, decoded
from gateway.http.context import Context
from gateway.http.disconnect import run_while_connected
from gateway.http.error_responses import error_response
from gateway.http.headers import header
from gateway.http.record import RequestRecord, record_of
from gateway.in_flight import RequestReservation

_MAX_DIGITS: Final = 18
# Python takes 7 ms to parse the worst query of this length. No parameter needs more than some hundred bytes.
_MAX_QUERY_BYTES: Final = 4 * 2**10


class Admission:
    """Bound how many POST requests are in flight, how large each is and how long it may last.

    Three events end an admitted request early, each with its own error: its deadline (`DeadlineExceeded`), its eviction
    while it is slow to upload (`Overloaded`), and the disconnect of its client (`ClientDisconnect`).
    """

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self._app = app
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = record_of(scope)
        try:
            if len(scope["query_string"]) > _MAX_QUERY_BYTES:
                raise InvalidInput(f"The query is longer than the {_MAX_QUERY_BYTES} bytes allowed.")
            if scope["method"] == "POST":
                await self._admit(scope, receive, send, record)
            else:
                record.authenticated = self._context.keys.check_head(scope)
                await self._app(scope, receive, send)
        except ClientDisconnect:
            record.error = "ClientLeft"
        except GatewayError as error:
            if record.status:
                raise
            await error_response(error, scope)(scope, receive, send)

    async def _admit(self, scope: Scope, receive: Receive, send: Send, record: RequestRecord) -> None:
        context = self._context
        if context.drain.refusing:
            raise Stopping("The server is being stopped. Try again in a moment.")
        try:
            client = context.clients.by_head(scope)
            with CancelScope() as cancel_scope, context.limiter.admit(cancel_scope.cancel, client) as reservation:
                receive = self._bounded(scope, receive, reservation, record)
                context.metrics.set_in_flight(context.limiter)
                record.authenticated = context.keys.check_head(scope)
                if (coding := coding_of(scope)) is not None:
                    receive = decoded(receive, coding, reservation, context.max_body_bytes)
                seconds = self._deadline_seconds(scope)
                cancel_scope.cancel_after(
                    seconds, lambda: DeadlineExceeded(f"The request took longer than {seconds:g} seconds.")
                )
                await run_while_connected(self._app, scope, receive, send, cancel_scope)
        finally:
            context.metrics.set_in_flight(context.limiter)

    def _bounded(
        self, scope: Scope, receive: Receive, reservation: RequestReservation, record: RequestRecord
    ) -> Receive:
        """Reserve the bytes of the body: at once if its length is known, else as they arrive."""
        max_bytes = self._context.max_body_bytes
        length = header(scope, b"content-length")
        length_known = length.isdecimal() and not header(scope, b"transfer-encoding")
        if length_known:
            record.body_bytes = int(length) if len(length) <= _MAX_DIGITS else max_bytes + 1
            if record.body_bytes > max_bytes:
                raise self._too_large()
            reservation.add(record.body_bytes)

        async def bounded_receive() -> Message:
            message = await receive()
            size = len(message.get("body", b""))
            if not length_known:
                record.body_bytes += size
                if record.body_bytes > max_bytes:
                    raise self._too_large()
                reservation.add(size)
            reservation.body_received(size, message.get("more_body", False))
            return message

        return bounded_receive

    def _deadline_seconds(self, scope: Scope) -> float:
        """Seconds that the request may last: the setting's, or fewer if the request says so."""
        requested = header(scope, b"x-request-timeout")
        if not requested:
            return self._context.deadline_seconds
        try:
            seconds = float(requested)
        except ValueError:
            seconds = math.nan
        if not seconds > 0:
            raise InvalidInput("X-Request-Timeout must be a number of seconds, more than 0.")
        return min(seconds, self._context.deadline_seconds)

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(f"The request's body is larger than the {self._context.max_body_bytes} bytes allowed.")
