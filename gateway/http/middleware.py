"""What happens to every request, as plain ASGI: it is named, timed and counted."""

import logging
import time

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.drain import Drain
from gateway.http.errors import internal_error
from gateway.http.exchange import Exchange, header
from gateway.observe import access_log
from gateway.observe.access_log import FinishedRequest
from gateway.observe.metrics import Metrics

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

    def __init__(self, app: ASGIApp, metrics: Metrics, drain: Drain) -> None:
        self._app = app
        self._metrics = metrics
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange(scope, send, self._drain)
        try:
            await self._app(scope, receive, exchange.send)
        except Exception:
            _log.exception("request %s failed", exchange.request_id)
            if exchange.status:
                raise  # half an answer is out; closing the connection is all that is left
            await internal_error(scope)(scope, receive, exchange.send)
        finally:
            finished = FinishedRequest(
                request_id=exchange.request_id,
                client=scope["client"][0] if scope.get("client") else None,
                route=getattr(scope.get("route"), "path", "other"),
                status=exchange.status or 499,
                error=exchange.error,
                seconds=time.perf_counter() - exchange.start,
                bytes=exchange.bytes,
                stages=exchange.stages,
            )
            self._metrics.record(finished)
            access_log.log(finished)


class Cors(CORSMiddleware):
    """Starlette's, for requests that a browser sends: only those name an origin."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Without one there is nothing to allow; `Vary` is for caches, and an answer to POST is in none.
        if scope["type"] == "http" and scope["method"] == "POST" and not header(scope, b"origin"):
            await self.app(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)
