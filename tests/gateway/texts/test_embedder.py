"""Long lists of texts take turns with other requests, in the tokenizing thread and at Triton."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import pytest

from gateway.observe.stages import Stages
from gateway.texts.cache import TextCache
from gateway.texts.embedder import TextEmbedder, TextEmbeddings
from tests.fakes import FakeEncoder, fake_spec


class Queue(Executor):
    """A pool that runs its jobs one by one, when a test says so.

    Attributes:
        jobs: those that wait, with the texts of each.
    """

    def __init__(self) -> None:
        self.jobs: list[tuple[list[str], Callable[[], None]]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.jobs.append((list(args[-1]), lambda: future.set_result(fn(*args, **kwargs))))
        return future

    async def run_next(self) -> list[str]:
        await settle()
        texts, run = self.jobs.pop(0)
        run()
        await settle()
        return texts


async def settle() -> None:
    """Let every task go on as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


Start = Callable[[list[str]], asyncio.Task[TextEmbeddings]]


def starter(encoder: FakeEncoder, pool: Executor) -> Start:
    embedder = TextEmbedder(encoder, TextCache(0), pool, max_characters=1_000_000)
    (spec,) = encoder.specs.values()
    return lambda texts: asyncio.create_task(embedder.embed(spec, texts, Stages()))


async def test_requests_take_turns_in_the_tokenizing_thread() -> None:
    pool = Queue()
    start = starter(FakeEncoder(), pool)
    long_list = [f"{i} " + "word " * 20_000 for i in range(3)]
    other = ["other " * 1_000]
    first = start(long_list)
    await settle()
    second = start(other)
    order = [await pool.run_next() for _ in range(4)]
    assert order == [long_list[:1], other, long_list[1:2], long_list[2:]]
    assert not pool.jobs
    assert (await first).truncated == [0, 1, 2]
    assert (await second).truncated == [0]


async def test_short_texts_are_tokenized_together() -> None:
    pool = Queue()
    start = starter(FakeEncoder(fake_spec(max_batch_size=500)), pool)
    texts = [f"text number {i}" for i in range(500)]
    embedded = start(texts)
    order = [await pool.run_next() for _ in range(4)]
    assert [text for job in order for text in job] == texts
    assert all(100 < len(job) < 150 for job in order[:3])
    assert (await embedded).embeddings.shape == (500, 8)


@pytest.mark.parametrize("texts", [["a cat"], ["a photo of a cat on a sofa"] * 64, [f"text {i}" for i in range(100)]])
async def test_small_requests_need_no_thread(texts: list[str]) -> None:
    pool = Queue()
    embedded = await starter(FakeEncoder(), pool)(texts)
    assert len(embedded.embeddings) == len(texts)
    assert not pool.jobs


@pytest.mark.parametrize("text", ["é\n" * 400, "&amp;amp;" * 90, "猫" * 700], ids=ascii)
async def test_a_text_that_has_to_be_cleaned_is_tokenized_in_the_thread(text: str) -> None:
    """ftfy takes up to ten times as long for a character as the rest of the tokenizer."""
    pool = Queue()
    start = starter(FakeEncoder(), pool)
    embedded = start(["short", text])
    assert await pool.run_next() == ["short"]
    assert await pool.run_next() == [text]
    await embedded
    await start(["a" * len(text)])
    assert not pool.jobs


async def test_the_order_of_a_list_is_kept_across_groups_and_jobs() -> None:
    encoder = FakeEncoder(fake_spec(max_batch_size=7))
    pool = Queue()
    start = starter(encoder, pool)
    texts = [f"text {i % 300}" for i in range(400)]
    task = start(texts)
    while not task.done():
        await settle()
        if pool.jobs:
            await pool.run_next()
    embeddings = task.result().embeddings
    for place in (0, 8, 150, 299, 350, 399):
        assert (embeddings[place] == (await start([texts[place]])).embeddings[0]).all()


def starter_with_stages(encoder: FakeEncoder, stages: Stages) -> Start:
    embedder = TextEmbedder(encoder, TextCache(0), Queue(), max_characters=1_000_000)
    (spec,) = encoder.specs.values()
    return lambda texts: asyncio.create_task(embedder.embed(spec, texts, stages))


@pytest.mark.parametrize(
    ("words", "length"), [(0, 4), (1, 4), (2, 4), (3, 8), (6, 8), (7, 16), (14, 16), (15, 16), (100, 16)]
)
async def test_a_text_is_padded_to_the_next_length(words: int, length: int) -> None:
    encoder = FakeEncoder(fake_spec(token_lengths=(4, 8, 16)))
    embedded = await starter(encoder, Queue())(["a " * words])
    assert encoder.token_lengths == [length]
    assert embedded.tokens == min(words, 14) + 2
    assert embedded.truncated == ([0] if words > 14 else [])
    of_full_length = await starter(FakeEncoder(fake_spec(token_lengths=(16,))), Queue())(["a " * words])
    assert (embedded.embeddings == of_full_length.embeddings).all()


async def test_a_mixed_list_is_divided_by_length_and_keeps_its_order() -> None:
    encoder, stages = FakeEncoder(fake_spec(max_batch_size=3, token_lengths=(4, 8, 16))), Stages()
    texts = ["a " * words for words in (14, 1, 7, 0, 5, 2, 20, 6)] + ["b", "c", "d"]
    embedded = await starter_with_stages(encoder, stages)(texts)
    assert stages.batches == [("text", 3), ("text", 3), ("text", 2), ("text", 3)]
    assert encoder.token_lengths == [4, 4, 8, 16]
    assert encoder.batches == [("texts", 3), ("texts", 3), ("texts", 2), ("texts", 3)]
    assert embedded.truncated == [6]
    for place, text in enumerate(texts):
        alone = await starter(encoder, Queue())([text])
        assert (embedded.embeddings[place] == alone.embeddings[0]).all()
