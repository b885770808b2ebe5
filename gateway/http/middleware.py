"""Pure ASGI middlewares for every request: observation and CORS."""

import logging
import time

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.http.clients import address_of
from gateway.http.context import Context
from gateway.http.error_responses import internal_error
from gateway.http.headers import header
from gateway.http.record import RequestRecord
from gateway.observe import access_log
from gateway.observe.access_log import FinishedRequest

_log = logging.getLogger(__name__)


class Observe:
    """Second middleware: create the request's record, then write metrics and a log line from it.

    An exception that no other code handles becomes a 500 here.
    """

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self._app = app
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = RequestRecord(scope, send, self._context.drain)
        try:
            await self._app(scope, receive, record.send)
        except Exception:
            _log.exception("request %s failed", record.request_id)
            if record.status:
                raise  # The response has started, so the server can only close the connection.
            await internal_error(scope)(scope, receive, record.send)
        finally:
            finished = FinishedRequest(
                request_id=record.request_id,
                client=address_of(scope),
                route=getattr(scope.get("route"), "path", "other"),
                status=record.status or 499,
                error=record.error,
                seconds=time.perf_counter() - record.start,
                bytes=record.body_bytes,
                stages=record.stages,
            )
            self._context.metrics.record(finished)
            access_log.log(finished)


class Cors(CORSMiddleware):
    """Starlette's CORS middleware, skipped for POST requests without an `Origin`, which browsers always send."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Starlette would only add `Vary: Origin`. That header is for caches, and no cache holds responses to POST.
        if scope["type"] == "http" and scope["method"] == "POST" and not header(scope, b"origin"):
            await self.app(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)
