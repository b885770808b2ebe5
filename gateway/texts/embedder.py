"""Embed texts: look them up in the cache, and tokenize and encode the others."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from typing import Final, NamedTuple

from gateway.arrays import stacked
from gateway.concurrency import gather
from gateway.encoder import Embeddings, Encoder, EncoderSpec
from gateway.errors import InvalidInput
from gateway.observe.stages import Stages
from gateway.texts.cache import TextCache, TextEmbedding
from gateway.texts.lengths import Batch, batches
from gateway.texts.tokenizer import Encoding, Tokenizer, is_plain, load_vocabulary

# Tokenising this many characters takes about 5 ms, and a text itself as much as `_CHARACTERS_FOR_A_TEXT` more. Longer
# lists are tokenised in a thread, in jobs of this size. A request waits for one job at a time, so requests take turns.
_CHARACTERS_AT_ONCE: Final = 5_000
_CHARACTERS_FOR_A_TEXT: Final = 25
# A character that has to be cleaned takes as long as this many others, in the worst case.
_CHARACTERS_FOR_AN_ODD_ONE: Final = 8
# Looking up, likewise.
_LOOKED_UP_AT_ONCE: Final = 25_000


class TextEmbeddings(NamedTuple):
    """The result for N texts.

    Attributes:
        embeddings: float32 [N, D].
        truncated: indices of the texts that were truncated.
        tokens: the number of tokens of all texts, with start and end tokens.
    """

    embeddings: Embeddings
    truncated: list[int]
    tokens: int


class TextEmbedder:
    """Embeds texts by the text towers of one encoder.

    Args:
        encoder: runs the towers.
        cache: the cache of embeddings.
        pool: runs CPU-bound work.
        max_characters: the maximum length of one text.
    """

    def __init__(self, encoder: Encoder, cache: TextCache, pool: Executor, max_characters: int) -> None:
        self._encoder = encoder
        self._cache = cache
        self._pool = pool
        self._max_characters = max_characters
        load_vocabulary()  # takes 0.1 s, which would otherwise delay the first request

    async def embed(self, spec: EncoderSpec, texts: Sequence[str], stages: Stages) -> TextEmbeddings:
        """Embed N texts, with N at least 1. Equal texts are embedded once.

        Raises:
            InvalidInput: a text is too long.
            ServerError: the encoder failed.
        """
        longest = max(map(len, texts))
        if longest > self._max_characters:
            raise InvalidInput(f"A text has {longest} characters; at most {self._max_characters} are allowed.")
        entries = await self._look_up(spec, texts)
        missing = [text for text, entry in entries.items() if entry is None]
        if missing:
            entries |= zip(missing, await self._embed(spec, missing, stages), strict=True)
        found = [entry for text in texts if (entry := entries[text]) is not None]
        return TextEmbeddings(
            embeddings=stacked([entry.embedding for entry in found]),
            truncated=[i for i, entry in enumerate(found) if entry.truncated],
            tokens=sum(entry.tokens for entry in found),
        )

    async def _look_up(self, spec: EncoderSpec, texts: Sequence[str]) -> dict[str, TextEmbedding | None]:
        entries: dict[str, TextEmbedding | None] = {}
        for part in _parts(texts, _LOOKED_UP_AT_ONCE, _length):
            if entries:
                await asyncio.sleep(0)
            for text in part:
                if text not in entries:
                    entries[text] = self._cache.get(spec, text)
        return entries

    async def _embed(self, spec: EncoderSpec, texts: Sequence[str], stages: Stages) -> list[TextEmbedding]:
        """Tokenize, encode and cache texts that are not in the cache."""
        with stages.measure("tokenize"):
            encodings = await self._tokenize(spec, texts)
        divided = batches([encoding.length for encoding in encodings], spec.token_lengths, spec.text.max_batch_size)
        stages.batches += [("text", len(batch.indices)) for batch in divided]

        async def encode(batch: Batch) -> list[TextEmbedding]:
            of_batch = [encodings[index] for index in batch.indices]
            tokens = stacked([encoding.tokens[: batch.length] for encoding in of_batch])
            rows = await self._encoder.encode_texts(spec, tokens)
            return self._keep(spec, [texts[index] for index in batch.indices], of_batch, rows)

        with stages.measure("encode"):
            embedded = await gather([encode(batch) for batch in divided])
        indices = [index for batch in divided for index in batch.indices]
        by_index = dict(zip(indices, (entry for entries in embedded for entry in entries), strict=True))
        return [by_index[index] for index in range(len(texts))]

    async def _tokenize(self, spec: EncoderSpec, texts: Sequence[str]) -> list[Encoding]:
        tokenizer = Tokenizer(spec.context_length)
        loop = asyncio.get_running_loop()
        encodings: list[Encoding] = []
        for part in _parts(texts, _CHARACTERS_AT_ONCE, _cost):
            if len(part) == len(texts) and sum(map(_cost, part)) <= _CHARACTERS_AT_ONCE:
                return _encode(tokenizer, texts)
            encodings += await loop.run_in_executor(self._pool, _encode, tokenizer, part)
        return encodings

    def _keep(
        self, spec: EncoderSpec, texts: Sequence[str], encodings: Sequence[Encoding], rows: Embeddings
    ) -> list[TextEmbedding]:
        entries = [
            # A copy, because a view in the cache would keep the whole batch in memory.
            TextEmbedding(row.copy(), encoding.length, encoding.truncated)
            for row, encoding in zip(rows, encodings, strict=True)
        ]
        for text, entry in zip(texts, entries, strict=True):
            self._cache.put(spec, text, entry)
        return entries


def _length(text: str) -> int:
    return len(text) + _CHARACTERS_FOR_A_TEXT


def _cost(text: str) -> int:
    is_costly = len(text) <= _CHARACTERS_AT_ONCE and not is_plain(text)
    return len(text) * (_CHARACTERS_FOR_AN_ODD_ONE if is_costly else 1) + _CHARACTERS_FOR_A_TEXT


def _parts(texts: Sequence[str], max_cost: int, cost_of: Callable[[str], int]) -> Iterator[Sequence[str]]:
    """Divide texts into runs of a limited cost. A text that costs more is a run of its own."""
    start = cost = 0
    for index, text in enumerate(texts):
        cost += (own := cost_of(text))
        if cost > max_cost and index > start:
            yield texts[start:index]
            start, cost = index, own
    yield texts[start:]


def _encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Encoding]:
    return [tokenizer.encode(text) for text in texts]
