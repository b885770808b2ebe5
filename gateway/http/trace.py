"""A span for each request, where traces are wanted."""

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.http.exchange import exchange_of, header
from gateway.observe.tracing import Tracing

_UNREMARKABLE: Final = frozenset({"/healthz", "/readiness", "/metrics"})
_PROPAGATED: Final = ("traceparent", "tracestate")


class Trace:
    """Within ``Observe``, whose account of the request it tells."""

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _UNREMARKABLE:
            await self._app(scope, receive, send)
            return
        exchange = exchange_of(scope)
        headers = {name: value for name in _PROPAGATED if (value := header(scope, name.encode()))}
        with self._tracing.request(scope["method"], headers) as span:
            try:
                await self._app(scope, receive, send)
            finally:
                route = getattr(scope.get("route"), "path", "other")
                span.update_name(f"{scope['method']} {route}")
                span.set_attributes(
                    {
                        "http.request.method": scope["method"],
                        "http.route": route,
                        "http.response.status_code": exchange.status or 499,
                        "pe.request_id": exchange.request_id,
                        "pe.items": exchange.stages.items,
                        "pe.bytes": exchange.bytes,
                        **{f"pe.stage.{stage}": spent for stage, spent in exchange.stages.seconds.items()},
                    }
                )
                if exchange.error is not None:
                    span.set_attribute("error.type", exchange.error)
                if exchange.status >= 500:
                    self._tracing.failed(span)
