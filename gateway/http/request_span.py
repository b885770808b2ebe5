"""Record an OpenTelemetry span for each request."""

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.http.headers import header
from gateway.http.record import record_of
from gateway.observe.tracing import Tracing

_UNTRACED_PATHS: Final = frozenset({"/healthz", "/readiness", "/metrics"})
_PROPAGATED: Final = ("traceparent", "tracestate")


class RequestSpan:
    """Middleware inside `Observe`, whose record of the request becomes the span's attributes."""

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _UNTRACED_PATHS:
            await self._app(scope, receive, send)
            return
        record = record_of(scope)
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
                        "http.response.status_code": record.status or 499,
                        "pe.request_id": record.request_id,
                        "pe.items": record.stages.items,
                        "pe.bytes": record.body_bytes,
                        **{f"pe.stage.{stage}": spent for stage, spent in record.stages.seconds.items()},
                    }
                )
                if record.error is not None:
                    span.set_attribute("error.type", record.error)
                if record.status >= 500:
                    self._tracing.failed(span)
