"""Middlewares: path prefix, request id, timing, limits, overload, unexpected errors and CORS."""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from gateway.errors import DeadlineExceeded, EncoderFault, EncoderUnavailable, GatewayError, Overloaded
from gateway.http.app import create_app
from gateway.settings import Settings
from tests.fakes import FakeEncoder, FakeFetch, InlineDecoder
from tests.gateway.http.conftest import MakeClient
from tests.pictures import base64_image, flat

TEXT = "/perception_encoder/embed_text"
BODY = {"text": "a cat"}


def metric(client: TestClient, name: str, **labels: str) -> float:
    """The value of one time series; 0 if the series does not exist yet."""
    for line in client.get("/metrics").text.splitlines():
        if line.startswith((name + "{", name + " ")):
            found = dict(re.findall(r'(\w+)="([^"]*)"', line))
            if found == labels:
                return float(line.rsplit(" ", 1)[1])
    return 0


class TestPrefix:
    @pytest.mark.parametrize("prefix", ["", "/vision"])
    def test_a_proxy_may_remove_the_prefix_or_pass_it_on(self, make_client: MakeClient, prefix: str) -> None:
        client = make_client(root_path="/vision")
        assert client.post(prefix + TEXT, json=BODY).status_code == 200
        assert client.get(f"{prefix}/openapi.json").json()["servers"] == [{"url": "/vision"}]
        assert client.get(f"{prefix}/docs").status_code == 200
        assert client.post(f"{prefix}/v1/embeddings", json={"input": 7}).json()["error"]["type"]
        assert metric(client, "pe_requests_total", route=TEXT, status="200") == 1

    def test_other_prefixes_are_not_found(self, make_client: MakeClient) -> None:
        client = make_client(root_path="/vision")
        assert client.post(f"/another{TEXT}", json=BODY).status_code == 404
        assert client.post(f"/visionary{TEXT}", json=BODY).status_code == 404

    def test_no_prefix_by_default(self, client: TestClient) -> None:
        assert client.post(f"/vision{TEXT}", json=BODY).status_code == 404
        assert "servers" not in client.get("/openapi.json").json()

    @pytest.mark.parametrize("path", ["vision", "/", "/vision/", "/a b", "//x", "/<script>"])
    def test_invalid_prefixes_are_refused(self, path: str) -> None:
        with pytest.raises(ValidationError):
            Settings(root_path=path)


def test_the_order_of_middlewares() -> None:
    app = create_app(Settings(root_path="/vision"), FakeEncoder(), FakeFetch(), InlineDecoder())
    names = [getattr(middleware.cls, "__name__", "") for middleware in app.user_middleware]
    assert names == ["Prefix", "Observe", "Cors", "Admission", "Dispatch"]


class TestIdentity:
    @pytest.mark.parametrize("given", ["7", "0b6e9c1e-52a5-4b7c-93c6-0a1f4f0e8a11", "a.b:c_d-e"])
    def test_a_request_id_is_echoed(self, client: TestClient, given: str) -> None:
        assert client.get("/healthz", headers={"x-request-id": given}).headers["x-request-id"] == given

    @pytest.mark.parametrize("given", [None, "", "a b", 'x"y', "x" * 200, "{}"])
    def test_a_new_id_replaces_an_unsafe_one(self, client: TestClient, given: str | None) -> None:
        headers = {} if given is None else {"x-request-id": given}
        assert re.fullmatch("[0-9a-f]{32}", client.get("/healthz", headers=headers).headers["x-request-id"])

    def test_errors_have_one_too(self, client: TestClient) -> None:
        for answer in (client.get("/nothing"), client.put(TEXT), client.post(TEXT, json={})):
            assert answer.status_code in (404, 405, 422)
            assert len(answer.headers["x-request-id"]) == 32


class TestTiming:
    def test_stages_are_in_the_header_and_the_metrics(self, client: TestClient) -> None:
        image = base64_image(flat((1, 2, 3)))
        answer = client.post("/perception_encoder/compare", json={"subject": image, "prompt": "a cat"})
        stages = re.findall(r"(\w+);dur=[\d.]+", answer.headers["server-timing"])
        assert stages == ["queue", "decode", "preprocess", "tokenize", "encode", "similarity", "total"]
        for stage in stages[:-1]:
            assert metric(client, "pe_stage_seconds_count", stage=stage) == 1
        labels = {"route": "/perception_encoder/compare"}
        assert metric(client, "pe_requests_total", status="200", **labels) == 1
        assert metric(client, "pe_request_seconds_count", **labels) == 1
        assert metric(client, "pe_in_flight") == 0

    def test_unknown_paths_make_no_time_series_of_their_own(self, client: TestClient) -> None:
        for path in ("/a", "/b", "/perception_encoder/nope"):
            client.post(path)
        assert metric(client, "pe_requests_total", route="other", status="404") == 3

    def test_one_log_line_for_each_request_that_clients_cannot_forge(
        self, client: TestClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO, "gateway.access"):
            client.post(TEXT, json=BODY, headers={"x-request-id": "q1"})
            client.get("/x%0a%7B%22status%22:200%7D")
        first, second = (json.loads(record.message) for record in caplog.records)
        assert first["request_id"] == "q1"
        assert first["route"] == TEXT
        assert first["status"] == 200
        assert first["tokenize"] > 0
        assert second["route"] == "other"


class TestBodies:
    def test_a_length_over_the_limit_is_refused_unread(self, make_client: MakeClient) -> None:
        client = make_client(max_body_bytes=1_000)
        answer = client.post(TEXT, json={"text": "x" * 2_000})
        assert answer.status_code == 413
        assert answer.json() == {"message": "The request's body is larger than the 1000 bytes allowed."}
        assert metric(client, "pe_refused_total", reason="PayloadTooLarge") == 1

    def test_a_body_in_chunks_is_counted(self, make_client: MakeClient) -> None:
        chunks = (b"x" * 100 for _ in range(100))
        assert make_client(max_body_bytes=1_000).post(TEXT, content=chunks).status_code == 413

    @pytest.mark.parametrize("length", ["-1", "x", "", "9" * 5_000])
    def test_a_senseless_length_is_no_surprise(self, make_client: MakeClient, length: str) -> None:
        answer = make_client(max_body_bytes=1_000).post(TEXT, json=BODY, headers={"content-length": length})
        assert answer.status_code in (200, 413)


@pytest.fixture
async def slow() -> AsyncIterator[tuple[FakeEncoder, httpx2.AsyncClient]]:
    """An app for two requests in flight, whose encoder takes half a second."""
    encoder = FakeEncoder(seconds=0.5)
    app = create_app(
        Settings.model_validate({"max_in_flight": 2, "deadline_seconds": 5}), encoder, FakeFetch(), InlineDecoder()
    )
    transport = httpx2.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url="http://x") as client:
        yield encoder, client


class TestLoad:
    async def test_more_than_allowed_is_refused_at_once(self, slow: tuple[FakeEncoder, httpx2.AsyncClient]) -> None:
        encoder, client = slow
        answers = await asyncio.gather(*(client.post(TEXT, json=BODY) for _ in range(5)))
        assert sorted(a.status_code for a in answers) == [200, 200, 429, 429, 429]
        refused = next(a for a in answers if a.status_code == 429)
        assert refused.headers["retry-after"] == "1"
        assert refused.json() == {"message": "The server is busy. Try again in a moment."}
        assert len(encoder.batches) == 2
        assert (await client.post(TEXT, json=BODY)).status_code == 200  # There is room again.

    async def test_health_is_answered_under_load(self, slow: tuple[FakeEncoder, httpx2.AsyncClient]) -> None:
        _, client = slow
        working = [asyncio.create_task(client.post(TEXT, json=BODY)) for _ in range(2)]
        await asyncio.sleep(0.1)
        for path in ("/healthz", "/readiness", "/info", "/metrics"):
            assert (await client.get(path)).status_code == 200
        assert "pe_in_flight 2.0" in (await client.get("/metrics")).text
        await asyncio.gather(*working)

    def test_past_the_deadline_work_is_cancelled(self, make_client: MakeClient) -> None:
        encoder = FakeEncoder(seconds=30)
        answer = make_client(encoder, deadline_seconds=0.5).post(TEXT, json=BODY)
        assert answer.status_code == 504
        assert answer.json() == {"message": "The request took longer than 0.5 seconds."}
        assert encoder.cancelled == 1


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "status", "retry_after"),
        [
            (Overloaded("a"), 429, "1"),
            (EncoderFault("b"), 502, None),
            (EncoderUnavailable("c"), 503, "1"),
            (DeadlineExceeded("d"), 504, None),
        ],
    )
    def test_the_encoders_errors(
        self, make_client: MakeClient, error: GatewayError, status: int, retry_after: str | None
    ) -> None:
        answer = make_client(FakeEncoder(error=error)).post(TEXT, json=BODY)
        assert (answer.status_code, answer.json()) == (status, {"message": str(error)})
        assert answer.headers.get("retry-after") == retry_after

    def test_an_unexpected_error_reveals_nothing(
        self, make_client: MakeClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Broken(FakeEncoder):
            async def encode_texts(self, *_: Any) -> Any:
                raise RuntimeError("secret")

        client = make_client(Broken())
        answer = client.post(TEXT, json=BODY)
        request_id = answer.headers["x-request-id"]
        message = f"Internal error. The server's log has it as request {request_id}."
        assert (answer.status_code, answer.json()) == (500, {"message": message})
        assert "secret" in caplog.text
        assert metric(client, "pe_errors_total", error="Internal") == 1
        assert answer.headers["x-request-id"] in caplog.text
        assert metric(client, "pe_requests_total", route=TEXT, status="500") == 1

    def test_nothing_loaded(self, make_client: MakeClient) -> None:
        encoder = FakeEncoder()
        encoder.specs = {}
        client = make_client(encoder)
        assert client.post(TEXT, json=BODY).status_code == 503
        assert client.get("/readiness").status_code == 503
        assert client.get("/readiness").json() == {"status": "not ready"}
        assert client.get("/healthz").json() == {"status": "healthy"}

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("PUT", TEXT, 405),
            ("GET", TEXT, 405),
            ("GET", "/x", 404),
            ("GET", "/clear_cache", 404),
            ("POST", "/clip/embed_text", 404),
        ],
    )
    def test_the_frameworks_own(self, client: TestClient, method: str, path: str, status: int) -> None:
        answer = client.request(method, path)
        assert answer.status_code == status
        assert list(answer.json()) == ["detail"]
        if status == 404:
            assert "serves Perception Encoder" in answer.json()["detail"]


class TestCors:
    def test_any_origin_by_default_and_no_credentials(self, client: TestClient) -> None:
        answer = client.post(TEXT, json=BODY, headers={"origin": "https://a.example"})
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers
        assert "Server-Timing" in answer.headers["access-control-expose-headers"]

    def test_refusals_can_be_read_by_browsers(self, make_client: MakeClient) -> None:
        client = make_client(max_body_bytes=1)
        answer = client.post(TEXT, json=BODY, headers={"origin": "https://a.example"})
        assert answer.status_code == 413
        assert answer.headers["access-control-allow-origin"] == "*"

    def test_listed_origins_only(self, make_client: MakeClient) -> None:
        client = make_client(allow_origins="https://a.example, https://b.example")
        for origin, allowed in (("https://b.example", True), ("https://evil.example", False)):
            preflight = {"origin": origin, "access-control-request-method": "POST"}
            answer = client.options(TEXT, headers=preflight)
            assert (answer.headers.get("access-control-allow-origin") == origin) is allowed
