"""Who may come in, with how much, and for how long: decided by the head of a request, before its body is read.

In this order: is there room, is it too long, has it a key. What the head does not tell, the body's arrival does.
"""

import asyncio
import math
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.drain import Drain
from gateway.errors import DeadlineExceeded, GatewayError, InvalidInput, Overloaded, PayloadTooLarge, Stopping
from gateway.http.disconnect import run_while_connected
from gateway.http.errors import error_response
from gateway.http.exchange import Exchange, exchange_of, header
from gateway.http.keys import ApiKeys
from gateway.in_flight import InFlight, Stay
from gateway.observe.metrics import Metrics

_MAX_DIGITS: Final = 18


class Admission:
    """Innermost: bounds how many inference requests are in flight, how large each is and how long it may take."""

    def __init__(
        self,
        app: ASGIApp,
        in_flight: InFlight,
        drain: Drain,
        keys: ApiKeys,
        metrics: Metrics,
        max_body_bytes: int,
        deadline_seconds: float,
    ) -> None:
        self._app = app
        self._in_flight = in_flight
        self._drain = drain
        self._keys = keys
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes
        self._deadline_seconds = deadline_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = exchange_of(scope)
        try:
            if scope["method"] == "POST":
                await self._infer(scope, receive, send, exchange)
            else:
                self._keys.check(scope)
                await self._app(scope, receive, send)
        except ClientDisconnect:
            exchange.error = "ClientLeft"
        except GatewayError as error:
            if exchange.status:
                raise
            await error_response(error, scope)(scope, receive, send)

    async def _infer(self, scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
        if self._drain.refusing:
            raise Stopping("The server is being stopped. Try again in a moment.")
        time = asyncio.timeout(None)
        try:
            with self._in_flight.admit(lambda: time.reschedule(0)) as stay:
                receive = self._bounded(scope, receive, stay, exchange)
                self._metrics.set_in_flight(self._in_flight)
                self._keys.check(scope)
                seconds = self._seconds(scope)
                async with time:
                    time.reschedule(asyncio.get_running_loop().time() + seconds)
                    await run_while_connected(self._app, scope, receive, send)
        except TimeoutError:
            if stay.away:
                raise Overloaded("The server is busy, and this request was slow to arrive. Try again.") from None
            raise DeadlineExceeded(f"The request took longer than {seconds:g} seconds.") from None
        finally:
            self._metrics.set_in_flight(self._in_flight)

    def _bounded(self, scope: Scope, receive: Receive, stay: Stay, exchange: Exchange) -> Receive:
        """Takes the room that the body needs: all at once if its length is known, else as it comes."""
        known = False
        length = header(scope, b"content-length")
        if length.isdecimal() and not header(scope, b"transfer-encoding"):
            exchange.bytes = int(length) if len(length) <= _MAX_DIGITS else self._max_body_bytes + 1
            if exchange.bytes > self._max_body_bytes:
                raise self._too_large()
            stay.take(exchange.bytes)
            known = True

        async def received() -> Message:
            message = await receive()
            size = len(message.get("body", b""))
            if not known:
                exchange.bytes += size
                if exchange.bytes > self._max_body_bytes:
                    raise self._too_large()
                stay.take(size)
            stay.arrived(size, message.get("more_body", False))
            return message

        return received

    def _seconds(self, scope: Scope) -> float:
        """What the request may take: less than the setting, if it says so."""
        asked = header(scope, b"x-request-timeout")
        if not asked:
            return self._deadline_seconds
        try:
            seconds = float(asked)
        except ValueError:
            seconds = math.nan
        if not seconds > 0:
            raise InvalidInput("X-Request-Timeout must be a number of seconds, more than 0.")
        return min(seconds, self._deadline_seconds)

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(f"The request's body is larger than the {self._max_body_bytes} bytes allowed.")
