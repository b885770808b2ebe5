"""What only direct calls of the service show: concurrency, batches and cancellation."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from gateway.encoder import Embeddings
from gateway.errors import EncoderFault, InvalidImage
from gateway.images.embedder import ImageEmbedder
from gateway.images.sources import EncodedImage
from gateway.in_flight import InFlightLimiter
from gateway.observe.stages import Stages
from gateway.service import EmbeddingService
from gateway.texts.cache import TextCache
from gateway.texts.embedder import TextEmbedder
from tests.fakes import FakeEncoder, FakeFetch, InlineDecoder, fake_spec
from tests.pictures import flat

RED, GREEN = EncodedImage(flat((255, 0, 0))), EncodedImage(flat((0, 255, 0)))
BROKEN = EncodedImage(b"", index=2)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture(autouse=True)
def admitted() -> Iterator[None]:
    """The test runs as an admitted request."""
    with InFlightLimiter(9, 1_000_000).admit(lambda error: None):
        yield


def service_of(encoder: FakeEncoder, pool: ThreadPoolExecutor, cache_bytes: int = 0) -> EmbeddingService:
    images = ImageEmbedder(encoder, FakeFetch(), InlineDecoder(), allow_arrays=False)
    texts = TextEmbedder(encoder, TextCache(cache_bytes), pool, max_characters=1_000_000)
    return EmbeddingService(encoder, images, texts, max_images=64, max_texts=64)


async def test_both_towers_work_at_the_same_time(pool: ThreadPoolExecutor) -> None:
    meeting = asyncio.Barrier(2)

    class Meeting(FakeEncoder):
        async def _answer(self, *arguments: Any) -> Embeddings:
            async with asyncio.timeout(5):
                await meeting.wait()  # One tower alone would time out.
            return await super()._answer(*arguments)

    service = service_of(Meeting(), pool)
    compared = await service.compare(fake_spec(), RED, ["a cat", "a dog"], Stages())
    assert compared.similarities.shape == (2,)


async def test_items_of_one_tower_are_one_batch(pool: ThreadPoolExecutor) -> None:
    encoder = FakeEncoder()
    service = service_of(encoder, pool)
    await service.compare(fake_spec(), RED, [GREEN, RED], Stages())
    assert encoder.batches == [("images", 3)]


async def test_long_lists_are_sent_while_later_images_are_decoded(pool: ThreadPoolExecutor) -> None:
    encoder = FakeEncoder(fake_spec(max_batch_size=64))
    service = service_of(encoder, pool)
    embedded = await service.embed(fake_spec(max_batch_size=64), [RED] * 20, Stages())
    assert embedded.embeddings.shape == (20, 8)
    assert sorted(n for _, n in encoder.batches) == [4, 8, 8]


async def test_texts_are_split_by_the_models_limit(pool: ThreadPoolExecutor) -> None:
    spec = fake_spec(max_batch_size=4)
    encoder = FakeEncoder(spec)
    service = service_of(encoder, pool)
    texts = [f"text {i}" for i in range(10)]
    all_at_once = await service.embed(spec, texts, Stages())
    assert encoder.batches == [("texts", 4), ("texts", 4), ("texts", 2)]
    alone = await service.embed(spec, texts[7:8], Stages())
    np.testing.assert_array_equal(all_at_once.embeddings[7], alone.embeddings[0])


async def test_a_bad_image_cancels_its_siblings(pool: ThreadPoolExecutor) -> None:
    encoder = FakeEncoder(fake_spec(max_batch_size=1), seconds=30)
    service = service_of(encoder, pool)
    with pytest.raises(InvalidImage) as raised:
        async with asyncio.timeout(5):
            await service.embed(fake_spec(max_batch_size=1), [RED, RED, BROKEN], Stages())
    assert raised.value.index == 2


async def test_the_first_of_several_failures_is_raised_plainly(pool: ThreadPoolExecutor) -> None:
    service = service_of(FakeEncoder(error=EncoderFault("broken")), pool)
    with pytest.raises(EncoderFault):
        await service.compare(fake_spec(), RED, ["a cat"], Stages())


async def test_a_mixture_keeps_its_order(pool: ThreadPoolExecutor) -> None:
    service = service_of(FakeEncoder(), pool)
    spec = fake_spec()
    mixed = await service.embed(spec, ["a cat", RED, "word " * 50, GREEN, "a dog"], Stages())
    for index, item in ((0, "a cat"), (1, RED), (3, GREEN), (4, "a dog")):
        alone = await service.embed(spec, [item], Stages())
        np.testing.assert_array_equal(mixed.embeddings[index], alone.embeddings[0])
    assert mixed.truncated == [2]
    assert mixed.tokens == 4 + 8 + 4


async def test_texts_that_repeat_cost_no_inference(pool: ThreadPoolExecutor) -> None:
    encoder = FakeEncoder()
    service = service_of(encoder, pool, cache_bytes=100_000)
    spec = fake_spec()
    first = await service.embed(spec, ["a cat", "a dog", "a cat", "long " * 20], Stages())
    again = await service.embed(spec, ["a cat", "long " * 20, "a cow"], Stages())
    assert encoder.batches == [("texts", 3), ("texts", 1)]
    np.testing.assert_array_equal(first.embeddings[[0, 3]], again.embeddings[:2])
    assert (first.truncated, again.truncated) == ([3], [1])
