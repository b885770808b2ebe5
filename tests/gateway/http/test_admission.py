"""What is refused by a request's head, and what becomes of work that nobody waits for any more."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from gateway.http.app import create_app
from gateway.images import embedder as image_embedder
from gateway.settings import Settings
from tests.fakes import FakeEncoder, FakeFetch
from tests.gateway.http.conftest import MakeClient
from tests.gateway.http.test_middleware import metric
from tests.pictures import base64_image, flat

TEXT = "/perception_encoder/embed_text"
IMAGE = "/perception_encoder/embed_image"
URL = "https://example.com/a.png"


class App:
    """An app on this event loop, with bodies that arrive when the test says so."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def post(self, path: str, body: "asyncio.Queue[bytes | None]", headers: dict[str, str]) -> asyncio.Task[int]:
        """Its status, once answered; None on the queue ends the body."""

        async def request() -> int:
            status = 0

            async def receive() -> dict[str, Any]:
                piece = await body.get()
                return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

            async def send(message: Any) -> None:
                nonlocal status
                status = message.get("status", status)

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
    app = create_app(Settings.model_validate(settings), FakeEncoder(), FakeFetch())
    async with app.router.lifespan_context(app):
        yield App(app)


def queue() -> "asyncio.Queue[bytes | None]":
    return asyncio.Queue()


class TestBytes:
    async def test_room_is_taken_by_the_head_alone(self, app: App) -> None:
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

    async def test_what_comes_in_chunks_takes_room_as_it_comes(self, app: App) -> None:
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

    def test_fetched_images_count_together(self, make_client: MakeClient) -> None:
        image = flat((1, 2, 3))
        bound = {"max_body_bytes": 1_000, "max_bytes_in_flight": 1_000 + 2 * len(image)}
        client = make_client(fetch=FakeFetch({URL: image}), **bound)
        two = {"image": [{"type": "url", "value": URL}] * 2}
        assert client.post(IMAGE, json=two).status_code == 200

        class Held(FakeFetch):
            async def __call__(self, url: str, take: Any) -> bytes:
                take(1_000 + len(image))
                return await super().__call__(url, take)

        client = make_client(fetch=Held({URL: image}), **bound)
        assert client.post(IMAGE, json=two).status_code == 429
        assert metric(client, "pe_refused_total", reason="Overloaded") == 1
        assert metric(client, "pe_in_flight_bytes") == 0

    def test_a_list_is_one_request(self, make_client: MakeClient) -> None:
        assert make_client(max_in_flight=1).post(TEXT, json={"text": ["a", "b", "c"]}).status_code == 200


class TestSlowBodies:
    async def test_they_keep_nobody_out(self, app: App) -> None:
        """As many as may be in flight, of which nothing comes: one of them gives way to a request that is whole."""
        silent = [app.post(TEXT, queue(), {"content-length": "100"}) for _ in range(10)]
        await asyncio.sleep(0.6)
        for _ in range(3):
            body = queue()
            body.put_nowait(b'{"text": "x"}')
            body.put_nowait(None)
            assert await app.post(TEXT, body, {}) == 200
        over = [task for task in silent if task.done()]
        assert [await task for task in over] == [429]
        for task in silent:
            task.cancel()


class TestDeadline:
    def test_a_request_can_ask_for_less(self, make_client: MakeClient) -> None:
        encoder = FakeEncoder(seconds=30)
        answer = make_client(encoder).post(TEXT, json={"text": "x"}, headers={"x-request-timeout": "0.2"})
        assert answer.status_code == 504
        assert answer.json() == {"message": "The request took longer than 0.2 seconds."}
        assert encoder.cancelled == 1

    def test_but_not_for_more(self, make_client: MakeClient) -> None:
        client = make_client(FakeEncoder(seconds=30), deadline_seconds=0.3)
        for asked in ("30", "inf"):
            answer = client.post(TEXT, json={"text": "x"}, headers={"x-request-timeout": asked})
            assert answer.json() == {"message": "The request took longer than 0.3 seconds."}

    @pytest.mark.parametrize("asked", ["0", "-1", "nan", "soon", "1 s", "0x1"])
    def test_what_is_no_time(self, client: TestClient, asked: str) -> None:
        answer = client.post(TEXT, json={"text": "x"}, headers={"x-request-timeout": asked})
        assert answer.status_code == 400
        assert "X-Request-Timeout" in answer.json()["message"]

    def test_a_body_that_does_not_come_is_no_excuse(self, make_client: MakeClient) -> None:
        def trickle() -> Iterator[bytes]:
            yield b'{"text": '
            threading.Event().wait(0.4)
            yield b'"x"}'

        assert make_client(deadline_seconds=0.2).post(TEXT, content=trickle()).status_code in (200, 504)


async def test_decoding_that_waits_is_dropped_and_its_bytes_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread, held by the first image; the second's request ends while it waits for that thread."""
    begun: list[Any] = []
    free = threading.Event()
    load: Callable[..., Any] = image_embedder._load

    def slow_load(source: Any, max_pixels: int) -> Any:
        begun.append(source)
        assert free.wait(10)
        return load(source, max_pixels)

    monkeypatch.setattr(image_embedder, "_load", slow_load)
    app = create_app(Settings.model_validate({"decode_threads": 1}), FakeEncoder(), FakeFetch())
    transport = httpx2.ASGITransport(app)
    image = {"image": base64_image(flat((1, 2, 3)))}
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url="http://x") as client:
        first = asyncio.create_task(client.post(IMAGE, json=image))
        while not begun:
            await asyncio.sleep(0.01)
        second = await client.post(IMAGE, json=image, headers={"x-request-timeout": "0.1"})
        assert second.status_code == 504
        assert "pe_in_flight 1.0" in (await client.get("/metrics")).text
        free.set()
        assert (await first).status_code == 200
        assert (await client.post(IMAGE, json=image)).status_code == 200
    assert len(begun) == 2  # the first and the last
