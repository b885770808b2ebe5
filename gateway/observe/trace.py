"""Traces by OpenTelemetry: a span for each request, within the client's trace, and one for each call, which Triton's
own spans continue. Where they go, how many and under what name is for OpenTelemetry's own variables to say:
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/

The only module that knows OpenTelemetry, which is an extra and imported only where traces are wanted.
"""

import importlib.util
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

Metadata = tuple[tuple[str, str], ...]
"""gRPC's form of headers."""

_SERVICE: Final = "perception-encoder-gateway"


def require() -> None:
    """Nothing, where OpenTelemetry is installed.

    Raises:
        ValueError: it is not.
    """
    try:
        found = [importlib.util.find_spec(f"opentelemetry.{part}") for part in ("sdk", "exporter.otlp.proto.http")]
    except ModuleNotFoundError:
        found = [None]
    if None in found:
        raise ValueError("PE_TRACES needs OpenTelemetry: pip install 'perception-encoder-server[otel]'")


class Tracing:
    """A tracer of its own, with nothing global. ``close`` sends what is left.

    Args:
        exporter: where spans go; OTLP over HTTP by default.
    """

    def __init__(self, exporter: "SpanExporter | None" = None) -> None:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        name = {} if "OTEL_SERVICE_NAME" in os.environ else {"service.name": _SERVICE}
        self._provider = TracerProvider(resource=Resource.create(name), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("gateway")
        self._propagator = TraceContextTextMapPropagator()
        self._current = trace.get_current_span
        self._kind = trace.SpanKind
        self._error = trace.StatusCode.ERROR

    def close(self) -> None:
        self._provider.shutdown()

    @contextmanager
    def request(self, name: str, headers: Mapping[str, str]) -> Iterator["Span"]:
        """One request's span, current within, below that which the client's ``traceparent`` names."""
        context = self._propagator.extract(dict(headers))
        with self._tracer.start_as_current_span(name, context, self._kind.SERVER) as span:
            yield span

    @contextmanager
    def call(self, model: str, address: str) -> Iterator[Metadata]:
        """One inference's span, and what tells Triton to continue it; nothing of a canary's, which no request needs."""
        if not self._current().get_span_context().is_valid:
            yield ()
            return
        attributes = {"rpc.system": "grpc", "rpc.method": "ModelInfer", "server.address": address, "pe.model": model}
        with self._tracer.start_as_current_span(f"ModelInfer {model}", kind=self._kind.CLIENT, attributes=attributes):
            headers: dict[str, str] = {}
            self._propagator.inject(headers)
            yield tuple(headers.items())

    def failed(self, span: "Span") -> None:
        span.set_status(self._error)
