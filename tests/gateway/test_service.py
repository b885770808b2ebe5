"""What only the service can be asked directly: what runs side by side, what goes together, what is cancelled."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from gateway.encoder import Embeddings, EncoderSpec
from gateway.errors import EncoderFault, InvalidImage
from gateway.observe import Stages
from gateway.service import EmbeddingService, InputLimits
from gateway.sources import EncodedImage
from tests.fakes import FakeEncoder, FakeFetch, fake_spec
from tests.pictures import flat

LIMITS = InputLimits(max_items=64, max_image_pixels=10_000, max_text_characters=1_000_000)
RED, GREEN = EncodedImage(flat((255, 0, 0))), EncodedImage(flat((0, 255, 0)))
BROKEN = EncodedImage(b"")


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


async def test_both_towers_work_at_the_same_time(pool: ThreadPoolExecutor) -> None:
    meeting = asyncio.Barrier(2)

    class Meeting(FakeEncoder):
        async def _answer(self, *arguments: Any) -> Embeddings:
            async with asyncio.timeout(5):
                await meeting.wait()  # nobody gets past alone
            return await super()._answer(*arguments)

    service = EmbeddingService(Meeting(), FakeFetch(), pool, LIMITS)
    similarities = await service.compare(fake_spec(), RED, ["a cat", "a dog"], Stages())
    assert similarities.shape == (2,)


async def test_what_one_tower_does_goes_as_one_batch(pool: ThreadPoolExecutor) -> None:
    encoder = FakeEncoder()
    service = EmbeddingService(encoder, FakeFetch(), pool, LIMITS)
    await service.compare(fake_spec(), RED, [GREEN, RED], Stages())
    assert encoder.batches == [("images", 3)]


async def test_long_lists_are_sent_while_later_images_are_decoded(pool: ThreadPoolExecutor) -> None:
    encoder = FakeEncoder(fake_spec(max_batch_size=64))
    service = EmbeddingService(encoder, FakeFetch(), pool, LIMITS)
    embeddings = await service.embed_images(fake_spec(max_batch_size=64), [RED] * 20, Stages())
    assert embeddings.shape == (20, 8)
    assert sorted(n for _, n in encoder.batches) == [4, 8, 8]


async def test_texts_are_split_by_the_models_limit(pool: ThreadPoolExecutor) -> None:
    spec = fake_spec(max_batch_size=4)
    encoder = FakeEncoder(spec)
    service = EmbeddingService(encoder, FakeFetch(), pool, LIMITS)
    texts = [f"text {i}" for i in range(10)]
    embeddings, _ = await service.embed_texts(spec, texts, Stages())
    assert encoder.batches == [("texts", 4), ("texts", 4), ("texts", 2)]
    alone, _ = await service.embed_texts(spec, texts[7:8], Stages())
    np.testing.assert_array_equal(embeddings[7], alone[0])


async def test_a_bad_image_cancels_its_siblings(pool: ThreadPoolExecutor) -> None:
    encoder = FakeEncoder(fake_spec(max_batch_size=1), seconds=30)
    service = EmbeddingService(encoder, FakeFetch(), pool, LIMITS)
    with pytest.raises(InvalidImage) as raised:
        async with asyncio.timeout(5):
            await service.embed_images(fake_spec(max_batch_size=1), [RED, RED, BROKEN], Stages())
    assert raised.value.index == 2


async def test_the_first_of_several_failures_is_raised_plainly(pool: ThreadPoolExecutor) -> None:
    service = EmbeddingService(FakeEncoder(error=EncoderFault("broken")), FakeFetch(), pool, LIMITS)
    with pytest.raises(EncoderFault):
        await service.compare(fake_spec(), RED, ["a cat"], Stages())


async def test_long_texts_leave_the_event_loop_free(pool: ThreadPoolExecutor) -> None:
    service = EmbeddingService(FakeEncoder(), FakeFetch(), pool, LIMITS)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)

    ticking = asyncio.create_task(tick())
    spec: EncoderSpec = fake_spec()
    await service.embed_texts(spec, ["&amp; word " * 50_000], Stages())
    ticking.cancel()
    assert ticks > 5
