"""The client: what it sends, how it tries again, and when it gives up."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx2
import numpy as np
import pytest

from deploy.bulk.client import Embedder
from deploy.bulk.errors import ItemError, ServerError, SpaceChanged
from deploy.bulk.sources.item import Embeddable, Frames
from tests.deploy.bulk.conftest import picture
from tests.deploy.bulk.scripted_gateway import Answer, ScriptedGateway, embeddings, error
from tests.running import PeServe

pytestmark = pytest.mark.bulk


async def embed(url: str, contents: Sequence[Embeddable], **options: Any) -> list[Any]:
    async with Embedder(url, **options) as embedder:
        return await embedder.embed(contents)


# -- with the real server


async def test_each_picture_has_the_embedding_that_it_has_alone(server: str) -> None:
    files = [picture(number) for number in range(20)]
    async with Embedder(server) as embedder:
        together = await embedder.embed(files)
        assert embedder.space.dimension == 64
        assert embedder.space.name.startswith("PE-Demo-T8-64@")
    async with httpx2.AsyncClient(base_url=server, trust_env=False) as client:
        for file, embedding in zip(files, together, strict=True):
            answer = await client.post(
                "/perception_encoder/embed_image", content=file, headers={"Content-Type": "image/png"}
            )
            assert not isinstance(embedding, ItemError)
            np.testing.assert_allclose(embedding, answer.json()["embeddings"][0], atol=1e-5)


async def test_texts_and_kinds_mixed(server: str) -> None:
    texts = [f"a red circle and {number} squares" for number in range(150)]
    found = await embed(server, [picture(0), *texts, picture(1)])
    assert all(np.linalg.norm(embedding) == pytest.approx(1, abs=1e-5) for embedding in found)
    alone = await embed(server, [texts[140]])
    np.testing.assert_allclose(found[141], alone[0], atol=1e-5)


async def test_bad_pictures_have_the_server_s_message_and_the_others_embeddings(server: str) -> None:
    files: list[Embeddable] = [picture(number) for number in range(12)]
    files[1], files[2], files[7], files[11] = b"no picture", b"", picture(3)[:60], "one text".encode("utf-16")
    found = await embed(server, files)
    assert [number for number, item in enumerate(found) if isinstance(item, ItemError)] == [1, 2, 7, 11]
    assert str(found[2]) == "The file is empty."
    assert all(str(found[number]).startswith("Could not load input image. Cause: ") for number in (1, 7, 11))


async def test_a_text_that_the_server_refuses_is_an_error_of_its_own(serve: Callable[..., PeServe]) -> None:
    url = serve(PE_MAX_TEXT_CHARACTERS="1000").wait_until_ready()
    found = await embed(url, ["a red circle", "x" * 2000, "a blue square"])
    assert isinstance(found[1], ItemError)
    assert "2000 characters" in str(found[1]) or "1000" in str(found[1])
    assert not isinstance(found[0], ItemError)
    assert not isinstance(found[2], ItemError)


async def test_frames_share_the_normalised_mean_of_their_embeddings(server: str) -> None:
    files = [picture(number) for number in range(11)]
    single = await embed(server, [*files])
    (video, broken, empty) = await embed(server, [Frames(files), Frames([files[0], b"bad"]), Frames([])])
    mean = np.mean(single, axis=0)
    np.testing.assert_allclose(video, mean / np.linalg.norm(mean), atol=1e-6)
    assert str(broken).startswith("Frame 1: Could not load input image.")
    assert str(empty) == "There are no frames."


async def test_a_small_server_refuses_requests_and_all_are_answered(serve: Callable[..., PeServe]) -> None:
    url = serve(PE_MAX_IN_FLIGHT="2").wait_until_ready()
    async with Embedder(url) as embedder:
        found = await asyncio.gather(*(embedder.embed([picture(number), picture(number)]) for number in range(60)))
        assert all(not isinstance(item, ItemError) for items in found for item in items)
        assert embedder.client.sent_again  # 429s
        assert embedder.client.limit.limit < 10


async def test_keys(serve: Callable[..., PeServe]) -> None:
    url = serve(PE_API_KEYS="right").wait_until_ready()
    assert not isinstance((await embed(url, ["a"], api_key="right"))[0], ItemError)
    for key in (None, "wrong"):
        with pytest.raises(ServerError, match=r"refuses the API key .*Give one by --api-key or PE_API_KEY"):
            await embed(url, ["a"], api_key=key)


async def test_a_server_that_restarts_is_waited_for(serve: Callable[..., PeServe]) -> None:
    first = serve()
    url = first.wait_until_ready()
    said: list[str] = []
    async with Embedder(url, say=said.append) as embedder:
        await embedder.embed([picture(0)])
        first.stop()
        waiting = asyncio.create_task(embedder.embed([picture(1)]))
        await asyncio.sleep(1)
        assert not waiting.done()
        await asyncio.to_thread(serve, "--port", url.rpartition(":")[2])
        (found,) = await asyncio.wait_for(waiting, 60)
    assert not isinstance(found, ItemError)
    assert len(said) == 2
    assert "Trying again" in said[0]
    assert said[1] == f"{url} answers again."


# -- with a scripted one


async def test_what_a_request_says(gateway: ScriptedGateway) -> None:
    await embed(gateway.url, [b"a", b"b"], api_key="key")
    assert gateway.headers["Authorization"] == "Bearer key"
    assert gateway.headers["Accept"] == "application/x-npy"
    assert gateway.headers["Content-Type"].startswith("multipart/form-data; boundary=")
    await embed(gateway.url, [b"a"])
    assert "Authorization" not in gateway.headers
    assert gateway.headers["Content-Type"] == "image/*"


async def test_large_files_are_sent_alone_and_too_large_ones_not_at_all(gateway: ScriptedGateway) -> None:
    gateway.info["limits"]["max_body_bytes"] = 10 * 2**20
    files = [bytes(size) for size in (10, 5 * 2**20, 10, 3 * 2**20, 3 * 2**20, 10, 11 * 2**20)]
    found = await embed(gateway.url, [*files])
    assert [list(map(len, items)) for items in gateway.requests] == [
        [10], [5 * 2**20], [10, 3 * 2**20], [3 * 2**20, 10],
    ]  # fmt: skip
    assert str(found[-1]) == f"The file has {11 * 2**20} bytes. The server reads at most {10 * 2**20}."


async def test_the_server_s_limits_of_a_request_are_kept(gateway: ScriptedGateway) -> None:
    gateway.info["limits"] |= {"max_items": 3, "max_texts": 2}
    await embed(gateway.url, [b"a"] * 7 + ["a"] * 3)
    assert sorted(len(items) for items in gateway.requests) == [1, 1, 2, 3, 3]


@pytest.mark.parametrize(("status", "name"), [(429, "Overloaded"), (503, "Stopping")])
@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_retry_after_is_honoured(gateway: ScriptedGateway, status: int, name: str, form: str) -> None:
    arrived: list[float] = []

    def answer(items: list[bytes]) -> Answer:
        arrived.append(time.time())
        if len(arrived) > 1:
            return embeddings(len(items))
        date = datetime.fromtimestamp(arrived[0], UTC) + timedelta(seconds=3)
        return error(status, name, Retry_After="2" if form == "seconds" else format_datetime(date, usegmt=True))

    gateway.answer = answer
    (found,) = await embed(gateway.url, [b"a"])
    assert not isinstance(found, ItemError)
    assert len(arrived) == 2
    # A date has no fractions of a second.
    assert arrived[1] - arrived[0] >= 2 - (0.01 if form == "seconds" else 0.0)


async def test_concurrency_rises_until_it_is_refused_and_then_stays_there(gateway: ScriptedGateway) -> None:
    def answer(items: list[bytes]) -> Answer:
        if gateway.in_flight > 12:
            return error(429, "full", Retry_After="0")
        time.sleep(0.01)
        return embeddings(len(items))

    gateway.answer = answer
    async with Embedder(gateway.url) as embedder:
        assert embedder.client.limit.limit == 4
        found = await asyncio.gather(*(embedder.embed([b"a"]) for _ in range(600)))
        assert 4 <= embedder.client.limit.limit <= 24
    assert not any(isinstance(item, ItemError) for (item,) in found)
    assert 12 < gateway.most_in_flight <= 25
    assert embedder.client.sent_again


async def test_a_lost_connection_is_tried_again(gateway: ScriptedGateway) -> None:
    tries = iter([Answer(0), Answer(0)])
    gateway.answer = lambda items: next(tries, embeddings(len(items)))
    (found,) = await embed(gateway.url, [b"a"])
    assert not isinstance(found, ItemError)
    assert len(gateway.requests) == 3


@pytest.mark.parametrize("fault", [Answer(0), error(500, "Internal error."), error(504, "slow"), error(502, "odd")])
async def test_an_item_that_breaks_the_server_each_time_gets_an_error(gateway: ScriptedGateway, fault: Answer) -> None:
    gateway.answer = lambda items: fault if b"bad" in items else embeddings(len(items))
    async with Embedder(gateway.url) as embedder:
        done = asyncio.Event()

        async def others() -> None:
            while not done.is_set():
                await embedder.embed([b"good"])
                await asyncio.sleep(0.05)

        succeed = asyncio.create_task(others())
        found = await asyncio.wait_for(embedder.embed([b"good", b"bad", b"good"]), 60)
        done.set()
        await succeed
    assert [isinstance(item, ItemError) for item in found] == [False, True, False]
    assert str(found[1]).startswith("The server failed 4 times: ")


@pytest.mark.parametrize(
    "fault", [Answer(0), error(503, "no Triton"), error(500, "Internal error."), error(429, "full")]
)
async def test_a_server_without_embeddings_is_given_up_in_time(gateway: ScriptedGateway, fault: Answer) -> None:
    gateway.answer = lambda items: fault
    begun = time.monotonic()
    with pytest.raises(ServerError, match=r"gave no embedding for 1.5 s, at last (no answer|status \d{3}: \w+)"):
        await embed(gateway.url, [b"a"], give_up_seconds=1.5)
    assert time.monotonic() - begun < 10


async def test_a_server_that_answers_others_is_not_given_up(gateway: ScriptedGateway) -> None:
    """A request may be refused for longer than that while others are answered."""
    refused_until = time.monotonic() + 2.5

    def answer(items: list[bytes]) -> Answer:
        if items == [b"a"] and time.monotonic() < refused_until:
            return error(429, "full", Retry_After="0")
        return embeddings(len(items))

    gateway.answer = answer
    async with Embedder(gateway.url, give_up_seconds=1) as embedder:
        unlucky = asyncio.create_task(embedder.embed([b"a"]))
        while not unlucky.done():
            await embedder.embed([b"b"])
            await asyncio.sleep(0.05)
        assert not isinstance((await unlucky)[0], ItemError)


async def test_a_change_of_the_space_is_refused(gateway: ScriptedGateway) -> None:
    async with Embedder(gateway.url) as embedder:
        await embedder.embed([b"a"])
        gateway.answer = lambda items: embeddings(len(items), "PE-Test@ffffffffffff")
        with pytest.raises(SpaceChanged, match=r"began with .*@0123456789ab.* of PE-Test@ffffffffffff: they cannot be"):
            await embedder.embed([b"a"])


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(200, b"{}", {"X-Embedding-Space": "PE-Test@0123456789ab"}), "something other than an array"),
        (embeddings(3), r"answered 1 items of .* with an array \(3, 4\)"),
        (Answer(404, b"nothing here"), "answers with 404: nothing here"),
        (Answer(307, b"", {"Location": "https://elsewhere/"}), "answers with 307: https://elsewhere/"),
    ],
)
async def test_what_no_gateway_answers(gateway: ScriptedGateway, answer: Answer, message: str) -> None:
    gateway.answer = lambda items: answer
    with pytest.raises(ServerError, match=message):
        await embed(gateway.url, [b"a"])


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"name": "Roboflow Inference Server"}, "no Perception Encoder Server: /info has no 'models'"),
        ([], "no Perception Encoder Server"),
        ({"models": {}, "limits": {}}, "serves several variants or none. Name one with --variant. Served: none yet."),
        ({"models": {"A": {}, "B": {}}, "limits": {}}, "Served: A, B."),
    ],
)
async def test_servers_that_cannot_be_used(gateway: ScriptedGateway, info: Any, message: str) -> None:
    gateway.info = info
    with pytest.raises(ServerError, match=message):
        await embed(gateway.url, [b"a"])


async def test_a_variant_is_chosen(gateway: ScriptedGateway) -> None:
    gateway.info["models"]["Other"] = {"embedding_space": "Other@0", "embed_dim": 3, "image_size": [8, 8]}
    await embed(gateway.url, [b"a"], variant="PE-Test")
    with pytest.raises(ServerError, match="does not serve PE-X"):
        await embed(gateway.url, [b"a"], variant="PE-X")


@pytest.mark.parametrize("url", ["", "ftp://x", "http://", "http://[", "http://127.0.0.1:99999"])
async def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(ServerError, match="no URL"):
        await embed(url, [b"a"])


async def test_no_server() -> None:
    with pytest.raises(ServerError, match=r"No server answers at http://127\.0\.0\.1:1 \(ConnectError.*make serve"):
        await embed("127.0.0.1:1", [b"a"])


async def test_loopback_needs_no_proxy(gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    assert len(await embed(gateway.url, [b"a"])) == 1


async def test_a_request_that_is_cancelled_gives_its_place_back(gateway: ScriptedGateway) -> None:
    wait = threading.Event()

    def answer(items: list[bytes]) -> Answer:
        if items == [b"slow"]:
            wait.wait(30)
        return embeddings(len(items))

    gateway.answer = answer
    async with Embedder(gateway.url) as embedder:
        tasks = [asyncio.create_task(embedder.embed([b"slow"])) for _ in range(8)]
        await asyncio.sleep(0.3)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        found = await asyncio.wait_for(asyncio.gather(*(embedder.embed([b"a"]) for _ in range(20))), 10)
        wait.set()
    assert len(found) == 20
