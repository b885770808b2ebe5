"""Trace requests by OpenTelemetry: one span per request, and one span per call to Triton.

A request's span belongs to the trace that the client names, and Triton's spans continue a call's span. OpenTelemetry's
environment variables configure the exporter, the sampling and the service name:
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/

OpenTelemetry is an optional dependency. Only this module imports it, and only if tracing is enabled.
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
"""gRPC metadata: pairs of name and value."""

_SERVICE: Final = "perception-encoder-gateway"


def require() -> None:
    """Check that OpenTelemetry is installed.

    Raises:
        ValueError: OpenTelemetry is not installed.
    """
    try:
        found = [importlib.util.find_spec(f"opentelemetry.{part}") for part in ("sdk", "exporter.otlp.proto.http")]
    except ModuleNotFoundError:
        found = [None]
    if None in found:
        raise ValueError(
            "PE_TRACES needs OpenTelemetry, which is not installed. Install this package with the extra `otel`."
        )


class Tracing:
    """A tracer that does not use OpenTelemetry's global state.

    Args:
        exporter: exports the spans. Default: OTLP over HTTP.
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
        """Export the remaining spans."""
        self._provider.shutdown()

    @contextmanager
    def request(self, name: str, headers: Mapping[str, str]) -> Iterator["Span"]:
        """Create the span of a request, as a child of the span that the client's `traceparent` names."""
        context = self._propagator.extract(dict(headers))
        with self._tracer.start_as_current_span(name, context, self._kind.SERVER) as span:
            yield span

    @contextmanager
    def call(self, model: str, address: str) -> Iterator[Metadata]:
        """Create the span of an inference call. Yields the metadata by which Triton continues the trace.

        Without a request's span, as for a readiness probe, no span is created and the metadata is empty.
        """
        if not self._current().get_span_context().is_valid:
            yield ()
            return
        attributes = {"rpc.system": "grpc", "rpc.method": "ModelInfer", "server.address": address, "pe.model": model}
        with self._tracer.start_as_current_span(f"ModelInfer {model}", kind=self._kind.CLIENT, attributes=attributes):
            headers: dict[str, str] = {}
            self._propagator.inject(headers)
            yield tuple(headers.items())

    def failed(self, span: "Span") -> None:
        """Set the status of a span to error."""
        span.set_status(self._error)
