"""A collector of traces on loopback: OTLP over HTTP, as protobuf (OpenTelemetry's Python) or as JSON (Triton)."""

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class JsonSpan(NamedTuple):
    """Identifiers in hexadecimal."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str


class Collector:
    """A context manager; it collects while it is entered."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.json_spans: list[JsonSpan] = []
        self.names: list[str] = []  # of services
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                if "json" in self.headers["content-type"]:
                    collector._take_json(json.loads(body))
                else:
                    collector._take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Collector":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _take(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            attributes = {a.key: a.value.string_value for a in resource.resource.attributes}
            self.names.append(attributes["service.name"])
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]

    def _take_json(self, request: Any) -> None:
        for resource in request["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                for span in scope["spans"]:
                    ids = (span["traceId"], span["spanId"], span.get("parentSpanId", ""))
                    self.json_spans.append(JsonSpan(span["name"], *ids))
