"""Refusal by a request's head, byte budget, eviction, deadlines and cancelled work."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from gateway.http.app import create_app
from gateway.settings import Settings
from tests.fakes import FakeEncoder, FakeFetch, InlineDecoder
from tests.gateway.http.conftest import MakeClient
from tests.gateway.http.test_middleware import metric
from tests.pictures import flat

TEXT = "/perception_encoder/embed_text"
IMAGE = "/perception_encoder/embed_image"
URL = "https://example.com/a.png"


class App:
    """An app on this event loop. The test decides when the parts of a body arrive.

    Attributes:
        answers: the JSON bodies of the responses, in the order of their ends.
    """

    def __init__(self, app: Any) -> None:
        self.app = app
        self.answers: list[Any] = []

    def post(self, path: str, body: "asyncio.Queue[bytes | None]", headers: dict[str, str]) -> asyncio.Task[int]:
        """Send a request. None on the queue ends the body. The task's result is the status of the response."""

        async def request() -> int:
            status = 0

            async def receive() -> dict[str, Any]:
                piece = await body.get()
                return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

            async def send(message: Any) -> None:
                nonlocal status
                status = message.get("status", status)
                if message["type"] == "http.response.body":
                    self.answers.append(json.loads(message["body"]))

            scope = {
                "type": "http",
                "method": "POST",
                "path": path,
                "query_string": b"",
                "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
            }
            await self.app(scope, receive, send)
            return status

        return asyncio.create_task(request())


@pytest.fixture
async def app() -> AsyncIterator[App]:
    settings = {"max_in_flight": 10, "max_body_bytes": 1_000, "max_bytes_in_flight": 1_500}
    app = create_app(Settings.model_validate(settings), FakeEncoder(), FakeFetch(), InlineDecoder())
    async with app.router.lifespan_context(app):
        yield App(app)


def queue() -> "asyncio.Queue[bytes | None]":
    return asyncio.Queue()


class TestBytes:
    async def test_bytes_are_reserved_by_the_head(self, app: App) -> None:
        first, never = queue(), queue()
        waiting = app.post(TEXT, first, {"content-length": "900"})
        await asyncio.sleep(0.05)
        assert await app.post(TEXT, never, {"content-length": "700"}) == 429
        first.put_nowait(b'{"text": "%s"}' % (b"x" * 888))
        first.put_nowait(None)
        assert await waiting == 200
        again = queue()
        again.put_nowait(b'{"text": "x"}')
        again.put_nowait(None)
        assert await app.post(TEXT, again, {"content-length": "700"}) == 200

    async def test_bytes_of_chunks_are_reserved_as_they_arrive(self, app: App) -> None:
        chunked = {"transfer-encoding": "chunked"}
        a, b = queue(), queue()
        first, second = app.post(TEXT, a, chunked), app.post(TEXT, b, chunked)
        a.put_nowait(b" " * 900)
        await asyncio.sleep(0.05)
        b.put_nowait(b" " * 500)
        await asyncio.sleep(0.05)
        assert not second.done()
        b.put_nowait(b" " * 101)
        assert await second == 429
        a.put_nowait(b'{"text": "x"}')
        a.put_nowait(None)
        assert await first == 200

    async def test_a_length_beside_chunks_is_not_believed(self, app: App) -> None:
        body = queue()
        for _ in range(11):
            body.put_nowait(b" " * 100)
        assert await app.post(TEXT, body, {"transfer-encoding": "chunked", "content-length": "1"}) == 413

    def test_fetched_images_share_the_byte_budget(self, make_client: MakeClient) -> None:
        image = flat((1, 2, 3))
        bound = {"max_body_bytes": 1_000, "max_bytes_in_flight": 1_000 + 2 * len(image)}
        client = make_client(fetch=FakeFetch({URL: image}), **bound)
        two = {"image": [{"type": "url", "value": URL}] * 2}
        assert client.post(IMAGE, json=two).status_code == 200

        class Held(FakeFetch):
            async def __call__(self, url: str, reserve: Any) -> bytes:
                reserve(1_000 + len(image))
                return await super().__call__(url, reserve)

        client = make_client(fetch=Held({URL: image}), **bound)
        assert client.post(IMAGE, json=two).status_code == 429
        assert metric(client, "pe_refused_total", reason="Overloaded") == 1
        assert metric(client, "pe_in_flight_bytes") == 0

    def test_a_list_is_one_request(self, make_client: MakeClient) -> None:
        assert make_client(max_in_flight=1).post(TEXT, json={"text": ["a", "b", "c"]}).status_code == 200


class TestSlowBodies:
    async def test_one_is_evicted_for_a_complete_request(self, app: App) -> None:
        """The maximum of requests is in flight, and no byte of their bodies arrives."""
        silent = [app.post(TEXT, queue(), {"content-length": "100"}) for _ in range(10)]
        await asyncio.sleep(0.6)
        for _ in range(3):
            body = queue()
            body.put_nowait(b'{"text": "x"}')
            body.put_nowait(None)
            assert await app.post(TEXT, body, {}) == 200
        over = [task for task in silent if task.done()]
        assert [await task for task in over] == [429]
        evicted = {"message": "The server is busy, and this request was slow to arrive. Try again."}
        assert app.answers.count(evicted) == 1
        for task in silent:
            task.cancel()

    async def test_an_evicted_request_is_overload_and_not_a_deadline(self, app: App) -> None:
        silent = app.post(TEXT, queue(), {"content-length": "1000"})
        await asyncio.sleep(0.6)
        body = queue()
        body.put_nowait(b" " * 900 + b'{"text": "x"}')
        body.put_nowait(None)
        assert await app.post(TEXT, body, {"content-length": "913"}) == 200
        assert await silent == 429
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app.app), base_url="http://x") as client:
            metrics = (await client.get("/metrics")).text
        assert 'pe_refused_total{reason="Overloaded"} 1.0' in metrics
        assert "DeadlineExceeded" not in metrics
        assert "pe_in_flight 0.0" in metrics
        assert "pe_in_flight_bytes 0.0" in metrics

    async def test_a_server_that_stops_cancels_and_does_not_answer(self, app: App) -> None:
        """Even if the request is evicted in the same iteration of the loop."""
        silent = [app.post(TEXT, queue(), {"content-length": "100"}) for _ in range(10)]
        await asyncio.sleep(0.6)
        waiting = app.post(TEXT, queue(), {"content-length": "100"})
        await asyncio.sleep(0)
        for task in silent:
            task.cancel()
        await asyncio.wait(silent)
        assert all(task.cancelled() for task in silent)
        waiting.cancel()
        assert app.answers == []


class TestDeadline:
    def test_a_request_can_shorten_it(self, make_client: MakeClient) -> None:
        encoder = FakeEncoder(seconds=30)
        answer = make_client(encoder).post(TEXT, json={"text": "x"}, headers={"x-request-timeout": "0.2"})
        assert answer.status_code == 504
        assert answer.json() == {"message": "The request took longer than 0.2 seconds."}
        assert encoder.cancelled == 1

    def test_a_request_cannot_extend_it(self, make_client: MakeClient) -> None:
        client = make_client(FakeEncoder(seconds=30), deadline_seconds=0.3)
        for requested in ("30", "inf"):
            answer = client.post(TEXT, json={"text": "x"}, headers={"x-request-timeout": requested})
            assert answer.json() == {"message": "The request took longer than 0.3 seconds."}

    @pytest.mark.parametrize("requested", ["0", "-1", "nan", "soon", "1 s", "0x1"])
    def test_senseless_times_are_refused(self, client: TestClient, requested: str) -> None:
        answer = client.post(TEXT, json={"text": "x"}, headers={"x-request-timeout": requested})
        assert answer.status_code == 400
        assert "X-Request-Timeout" in answer.json()["message"]

    async def test_it_includes_the_upload(self, app: App) -> None:
        body = queue()
        body.put_nowait(b'{"text": ')
        assert await app.post(TEXT, body, {"x-request-timeout": "0.2"}) == 504
        assert app.answers == [{"message": "The request took longer than 0.2 seconds."}]
