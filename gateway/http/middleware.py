"""What happens to every request, as plain ASGI: it is named, timed and counted, and admitted or refused."""

import asyncio
import logging
import time

from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import DeadlineExceeded, GatewayError, Overloaded, PayloadTooLarge
from gateway.http.disconnect import run_while_connected
from gateway.http.errors import error_response, internal_error
from gateway.http.exchange import Exchange, exchange_of, header
from gateway.limits import InFlight
from gateway.observe import Metrics

_log = logging.getLogger(__name__)


class Prefix:
    """Outermost, behind a proxy that shows the server below ``root_path``: documents name that, routes never see it."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "root_path": self._root_path, "path": self._inner(scope["path"])}
        await self._app(scope, receive, send)

    def _inner(self, path: str) -> str:
        return path.removeprefix(self._root_path) if path.startswith(f"{self._root_path}/") else path


class Observe:
    """Then: a request id, a stage timer, the metrics and the log line, and an answer to what nobody caught."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange(scope, send)
        try:
            await self._app(scope, receive, exchange.send)
        except Exception:
            _log.exception("request %s failed", exchange.request_id)
            if exchange.status:
                raise  # half an answer is out; closing the connection is all that is left
            await internal_error(scope["path"])(scope, receive, exchange.send)
        finally:
            route = scope.get("route")
            self._metrics.record(
                # The route's pattern: paths as sent would make the number of time series anyone's choice.
                route=getattr(route, "path", "other"),
                status=exchange.status or 499,
                seconds=time.perf_counter() - exchange.start,
                stages=exchange.stages,
                request_id=exchange.request_id,
                client=scope["client"][0] if scope.get("client") else None,
            )


class Cors(CORSMiddleware):
    """Starlette's, for requests that a browser sends: only those name an origin."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Without one there is nothing to allow; `Vary` is for caches, and an answer to POST is in none.
        if scope["type"] == "http" and scope["method"] == "POST" and not header(scope, b"origin"):
            await self.app(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


class Admission:
    """Innermost: bounds how many inference requests are in flight, how large each is and how long it may take."""

    def __init__(
        self, app: ASGIApp, in_flight: InFlight, metrics: Metrics, max_body_bytes: int, deadline_seconds: float
    ) -> None:
        self._app = app
        self._in_flight = in_flight
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes
        self._deadline_seconds = deadline_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        exchange = exchange_of(scope)
        try:
            with self._in_flight.admit():
                self._metrics.in_flight.set(self._in_flight.count)
                length = header(scope, b"content-length")
                if length.isdecimal() and int(length[:20]) > self._max_body_bytes:
                    raise self._too_large()
                async with asyncio.timeout(self._deadline_seconds):
                    await run_while_connected(self._app, scope, self._counted(receive), send)
        except ClientDisconnect:
            self._metrics.refused.labels("ClientLeft").inc()
        except (GatewayError, TimeoutError) as error:
            if exchange.status:
                raise
            if isinstance(error, Overloaded | PayloadTooLarge):
                self._metrics.refused.labels(type(error).__name__).inc()
            if isinstance(error, TimeoutError):
                error = DeadlineExceeded(f"The request took longer than {self._deadline_seconds:g} seconds.")
            await error_response(error, scope["path"])(scope, receive, send)
        finally:
            self._metrics.in_flight.set(self._in_flight.count)

    def _counted(self, receive: Receive) -> Receive:
        """Counts what arrives, since a chunked body does not say its length."""
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_body_bytes:
                raise self._too_large()
            return message

        return counted

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(f"The request's body is larger than the {self._max_body_bytes} bytes allowed.")
