"""Servers that hang, and clients that ask for everything, keep nobody else out."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import httpx2
import pytest

from gateway import in_flight
from gateway.encoder import Embeddings
from gateway.http.app import create_app
from gateway.images.fetch import FetchPolicy, ImageFetcher
from gateway.settings import Settings
from tests.fakes import FakeEncoder, InlineDecoder
from tests.gateway.hanging import HANGING, image_server, ok
from tests.pictures import flat

pytestmark = pytest.mark.slow  # starts servers

TEXT: Final = "/perception_encoder/embed_text"
IMAGE: Final = "/perception_encoder/embed_image"
COMPARE: Final = "/perception_encoder/compare"
BODY: Final = {"text": "a cat"}
PICTURE: Final = flat((1, 2, 3))
# No fetch times out while a test runs.
POLICY: Final = FetchPolicy(
    allow_non_https=True, allow_without_fqdn=True, allow_non_global_addresses=True, timeout_seconds=300
)
LOCKED: Final = "first-key, second-key"


class Holding(FakeEncoder):
    """An encoder that answers the first `calls` calls only when the test says so."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.free = asyncio.Event()
        self._left = calls

    async def _answer(self, *arguments: Any) -> Embeddings:
        self._left -= 1
        if self._left >= 0:
            await self.free.wait()
        return await super()._answer(*arguments)


class Served:
    """A running app with the real image fetcher, and clients of any address."""

    def __init__(self, app: Any, encoder: FakeEncoder, stack: AsyncExitStack) -> None:
        self.encoder = encoder
        self.limiter = app.state.context.limiter
        self._app = app
        self._stack = stack

    async def client(self, address: str = "192.0.2.1") -> httpx2.AsyncClient:
        transport = httpx2.ASGITransport(self._app, client=(address, 1))
        return await self._stack.enter_async_context(httpx2.AsyncClient(transport=transport, base_url="http://x"))

    async def metric(self, series: str) -> float:
        text = (await (await self.client()).get("/metrics")).text
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(f"{series} "))

    async def until(self, series: str, value: float) -> None:
        async with asyncio.timeout(60):
            while await self.metric(series) != value:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def serving(encoder: FakeEncoder | None = None, fetch: ImageFetcher | None = None, **settings: Any) -> Any:
    encoder, chosen = encoder or FakeEncoder(), Settings.model_validate({"deadline_seconds": 300, **settings})
    app = create_app(chosen, encoder, fetch or ImageFetcher(POLICY, max_fetches=chosen.max_fetches), InlineDecoder())
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.router.lifespan_context(app))
        yield Served(app, encoder, stack)


@pytest.fixture
async def healthy() -> AsyncIterator[str]:
    async with image_server(ok(PICTURE), ends=True) as url:
        yield url


def image(*urls: str) -> dict[str, Any]:
    return {"image": [{"type": "url", "value": url} for url in urls]}


@asynccontextmanager
async def running(requests: Sequence[Coroutine[Any, Any, Any]]) -> AsyncIterator[list[asyncio.Task[Any]]]:
    tasks = [asyncio.create_task(request) for request in requests]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class TestServersThatHang:
    @pytest.mark.parametrize("sends", HANGING.values(), ids=HANGING)
    async def test_requests_that_wait_for_them_keep_nobody_out(self, sends: bytes, healthy: str) -> None:
        async with serving() as served, image_server(sends) as url:
            client = await served.client()
            hanging: list[asyncio.Task[Any]] = []
            for _ in range(4):  # In bursts that have places before they wait.
                with_place = [asyncio.create_task(client.post(IMAGE, json=image(url))) for _ in range(25)]
                hanging += with_place
                await served.until("pe_fetches_in_flight", len(hanging))
            assert await served.metric("pe_in_flight") == 0
            for body in (BODY, {"text": ["a dog", "a cat"]}):
                assert (await client.post(TEXT, json=body)).status_code == 200
            assert (await client.post(IMAGE, json=image(healthy))).status_code == 200
            assert (await client.post(IMAGE, json=image(*[healthy] * 20))).status_code == 200
            assert not any(task.done() for task in hanging)
            for task in hanging:
                task.cancel()
            await asyncio.gather(*hanging, return_exceptions=True)
            await served.until("pe_fetches_in_flight", 0)
            assert await served.metric("pe_in_flight") == 0

    async def test_names_whose_lookup_hangs_keep_nobody_out(self, healthy: str) -> None:
        async def resolve(host: str, port: int) -> list[str]:
            await asyncio.Event().wait()
            raise AssertionError

        async with serving(fetch=ImageFetcher(POLICY, resolve=resolve)) as served:
            client = await served.client()
            urls = [f"https://host-{i}.example.com/a.png" for i in range(64)]
            async with running([client.post(IMAGE, json=image(url)) for url in urls]):
                await served.until("pe_fetches_in_flight", 64)
                assert (await client.post(TEXT, json=BODY)).status_code == 200
                assert (await client.post(IMAGE, json=image(healthy))).status_code == 200

    async def test_a_list_leaves_fetches_for_the_next_request(self, healthy: str) -> None:
        async with serving(max_fetches=16) as served, image_server(b"") as url:
            client = await served.client()
            async with running([client.post(IMAGE, json=image(*[url] * 64))]):
                await served.until("pe_fetches_in_flight", 1)
                assert (await client.post(IMAGE, json=image(*[healthy] * 5))).status_code == 200

    async def test_lists_leave_fetches_for_the_next_list(self, healthy: str) -> None:
        async with serving() as served, image_server(b"") as url:
            client = await served.client()
            async with running([client.post(IMAGE, json=image(*[url] * 64)) for _ in range(40)]) as lists:
                async with asyncio.timeout(60):
                    while served.limiter.admitted < 40 or served.limiter.count:
                        await asyncio.sleep(0.01)
                assert 200 < served.limiter.fetches.total < 256
                assert (await client.post(IMAGE, json=image(*[healthy] * 64))).status_code == 200
                assert not any(task.done() for task in lists)

    async def test_one_host_has_half_of_the_connections(self) -> None:
        heads: list[bytes] = []
        async with serving(max_fetches=16) as served, image_server(b"", heads=heads) as url:
            client = await served.client()
            async with running([client.post(IMAGE, json=image(url)) for _ in range(16)]):
                await served.until("pe_fetches_in_flight", 16)
                async with asyncio.timeout(60):
                    while len(heads) < 8:
                        await asyncio.sleep(0.01)
                await asyncio.sleep(0.1)
                assert len(heads) == 8

    async def test_too_many_fetches_are_refused_to_their_client_alone(self, healthy: str) -> None:
        async with serving(max_fetches=8) as served, image_server(b"") as url:
            client, other = await served.client(), await served.client("192.0.2.2")
            async with running([client.post(IMAGE, json=image(url)) for _ in range(8)]):
                await served.until("pe_fetches_in_flight", 8)
                refused = await client.post(IMAGE, json=image(healthy))
                assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
                assert "images are being fetched" in refused.json()["message"]
                assert await served.metric('pe_refused_total{reason="TooManyFetches"}') == 1
                assert (await client.post(TEXT, json=BODY)).status_code == 200
                assert (await other.post(IMAGE, json=image(healthy))).status_code == 200

    async def test_texts_are_embedded_while_an_image_hangs(self) -> None:
        async with serving() as served, image_server(b"") as url:
            client = await served.client()
            body = {"subject": {"type": "url", "value": url}, "prompt": ["a", "b"], "prompt_type": "text"}
            async with running([client.post(COMPARE, json=body)]) as (waiting,):
                await served.until("pe_fetches_in_flight", 1)
                await served.until("pe_in_flight", 0)
                assert served.encoder.batches == [("texts", 2)]
                assert not waiting.done()

    async def test_a_drain_waits_for_requests_that_wait(self) -> None:
        """A process that is told to stop answers what it accepted."""
        async with serving() as served, image_server(b"") as url:
            client = await served.client()
            async with running([client.post(IMAGE, json=image(url))]):
                await served.until("pe_fetches_in_flight", 1)
                drain = served._app.state.context.drain
                drain._seconds = 0
                drain.begin()
                assert drain.refusing
                assert not drain.over


class TestClients:
    async def test_one_key_with_all_places_does_not_stop_another(self) -> None:
        def ways(key: str) -> list[dict[str, Any]]:
            return [
                {"params": {"api_key": key}, "json": BODY},
                {"headers": {"authorization": f"Bearer {key}"}, "json": BODY},
                {"json": {**BODY, "api_key": key}},
            ]

        async with serving(Holding(4), max_in_flight=4, api_keys=LOCKED, text_cache_bytes=0) as served:
            client = await served.client()
            async with running([client.post(TEXT, **ways("first-key")[i % 3]) for i in range(4)]) as all_:
                await served.until("pe_in_flight", 4)
                for way in ways("first-key"):
                    refused = await client.post(TEXT, **way)
                    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
                for way in ways("second-key"):
                    assert (await client.post(TEXT, **way)).status_code == 200
                served.encoder.free.set()
                assert [answer.status_code for answer in await asyncio.gather(*all_)] == [200] * 4
            await served.until("pe_in_flight", 0)

    async def test_one_address_with_all_places_does_not_stop_another(self) -> None:
        async with serving(Holding(4), max_in_flight=4) as served:
            client, other = await served.client("192.0.2.1"), await served.client("192.0.2.2")
            async with running([client.post(TEXT, json={"text": str(i)}) for i in range(4)]):
                await served.until("pe_in_flight", 4)
                assert (await client.post(TEXT, json={"text": "x"})).status_code == 429
                assert (await other.post(TEXT, json={"text": "x"})).status_code == 200

    async def test_a_refusal_for_the_sake_of_others_is_counted_apart(self) -> None:
        async with serving(Holding(9), max_in_flight=8, text_cache_bytes=0) as served:
            client, other = await served.client("192.0.2.1"), await served.client("192.0.2.2")
            async with running([other.post(TEXT, json=BODY), *(client.post(TEXT, json=BODY) for _ in range(8))]):
                await served.until("pe_in_flight", 9)
                refused = await client.post(TEXT, json=BODY)
                assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
                assert await served.metric('pe_refused_total{reason="ShareExceeded"}') == 1

    async def test_unknown_keys_are_no_clients_of_their_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Else one client could be as many clients as it invents keys."""
        monkeypatch.setattr(in_flight, "_GRACE_SECONDS", 1_000)  # no slow upload is evicted
        async with serving(max_in_flight=2, api_keys=LOCKED) as served:
            client = await served.client()
            unread = asyncio.Event()

            async def silent() -> AsyncIterator[bytes]:
                yield b"{"
                await unread.wait()

            async with running([client.post(TEXT, content=silent()) for _ in range(2)]):
                await served.until("pe_in_flight", 2)
                answers = [await client.post(TEXT, params={"api_key": f"{i}"}, json=BODY) for i in range(5)]
                assert {answer.status_code for answer in answers} == {429}
                assert (await client.post(TEXT, params={"api_key": "first-key"}, json=BODY)).status_code == 200

    async def test_one_client_leaves_bytes_for_another(self) -> None:
        sizes: dict[str, Any] = {"max_body_bytes": 1_000, "max_bytes_in_flight": 1_000, "text_cache_bytes": 0}
        async with serving(Holding(1), **sizes) as served:
            client, other = await served.client("192.0.2.1"), await served.client("192.0.2.2")
            async with running([client.post(TEXT, json={"text": "x" * 900})]):
                await served.until("pe_in_flight", 1)
                assert (await client.post(TEXT, json={"text": "x" * 200})).status_code == 429
                assert (await other.post(TEXT, json={"text": "x" * 200})).status_code == 200
