"""Spans as a collector receives them, from the client's trace to the metadata that Triton receives."""

import importlib.util
from collections.abc import Iterator
from typing import Any, Final

import httpx2
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from gateway.http.app import create_app
from gateway.observe import tracing
from gateway.observe.tracing import Tracing
from gateway.settings import Settings
from gateway.triton.encoder import TritonEncoder
from tests.fake_triton import FakeTriton, served
from tests.fakes import FakeFetch, InlineDecoder
from tests.otlp import Collector

TEXT: Final = "/perception_encoder/embed_text"
TRACE: Final = "0af7651916cd43dd8448eb211c80319c"
PARENT: Final = "b7ad6b7169203331"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        yield collector


async def send(triton: FakeTriton, *requests: tuple[str, str, dict[str, Any]]) -> None:
    tracer = Tracing()
    async with served(triton) as port:
        encoder = TritonEncoder(f"127.0.0.1:{port}", tracing=tracer)
        app = create_app(Settings(), encoder, FakeFetch(), InlineDecoder(), tracing=tracer)
        transport = httpx2.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=transport, base_url="http://x") as client,
        ):
            for method, path, more in requests:
                await client.request(method, path, **more)


def attributes(span: Span) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}


async def test_one_trace_from_the_client_to_triton(collector: Collector) -> None:
    triton = FakeTriton()
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "q1"}
    await send(triton, ("POST", TEXT, {"json": {"text": ["a", "b"]}, "headers": headers}))
    call, request = collector.spans
    assert (request.name, call.name) == (f"POST {TEXT}", "ModelInfer V-text")
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    assert request.parent_span_id.hex() == PARENT
    assert call.parent_span_id == request.span_id
    assert triton.traceparents == [f"00-{TRACE}-{call.span_id.hex()}-01"]
    found = attributes(request)
    assert (found["http.response.status_code"], found["pe.items"], found["pe.request_id"]) == (200, 2, "q1")
    assert found["pe.stage.encode"] > 0
    assert collector.names == ["perception-encoder-gateway"]


async def test_server_errors_are_marked_and_health_checks_have_no_span(collector: Collector) -> None:
    broken = FakeTriton(answer=lambda batch: batch.astype("float32"))
    path = TEXT + "?api_key=secret"
    await send(broken, ("GET", "/readiness", {}), ("POST", path, {"json": {"text": "x"}}), ("POST", TEXT, {"json": {}}))
    spans = {attributes(span).get("http.response.status_code"): span for span in collector.spans}
    assert spans[502].status.code == 2
    assert attributes(spans[502])["error.type"] == "EncoderFault"
    assert spans[422].status.code == 0
    assert not any("readiness" in span.name for span in collector.spans)
    assert "secret" not in str(collector.spans)


async def test_a_readiness_probe_has_no_span(collector: Collector) -> None:
    triton = FakeTriton()
    await send(triton, ("GET", "/readiness", {}))
    assert triton.infer_calls == 2
    assert not collector.spans


def test_without_opentelemetry_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    tracing.require()

    def find_spec(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    with pytest.raises(ValueError, match="Install this package with the extra `otel`"):
        tracing.require()
