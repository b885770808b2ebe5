"""Texts to embeddings: tokenize, encode, and neither where the cache knows the answer."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Final, NamedTuple

from gateway.arrays import stacked
from gateway.concurrency import gather
from gateway.encoder import Embeddings, Encoder, EncoderSpec
from gateway.errors import InvalidInput
from gateway.observe.stages import Stages
from gateway.texts.cache import TextCache, TextEmbedding
from gateway.texts.tokenizer import Encoding, Tokenizer, load_vocabulary

# Texts longer than this together (about 5 ms) are tokenised off the event loop.
_INLINE_CHARACTERS: Final = 5_000


class TextEmbeddings(NamedTuple):
    """Embeddings float32 [N, D]; which of the N texts were truncated; how many tokens they have together."""

    embeddings: Embeddings
    truncated: list[int]
    tokens: int


class TextEmbedder:
    """Embeds by one encoder's text towers.

    Args:
        pool: runs what keeps a CPU busy.
        max_characters: of one text.
    """

    def __init__(self, encoder: Encoder, cache: TextCache, pool: Executor, max_characters: int) -> None:
        self._encoder = encoder
        self._cache = cache
        self._pool = pool
        self._max_characters = max_characters
        load_vocabulary()  # a tenth of a second that no request should wait for

    async def embed(self, spec: EncoderSpec, texts: Sequence[str], stages: Stages) -> TextEmbeddings:
        """Embeddings of N texts, N at least 1, in order. Each different text is embedded once, if at all.

        Raises:
            InvalidInput: a text is too long.
            ServerError: the encoder failed.
        """
        longest = max(map(len, texts))
        if longest > self._max_characters:
            raise InvalidInput(f"A text has {longest} characters; at most {self._max_characters} are allowed.")
        entries: dict[str, TextEmbedding] = {}
        missing: list[str] = []
        for text in dict.fromkeys(texts):
            if (entry := self._cache.get(spec, text)) is None:
                missing.append(text)
            else:
                entries[text] = entry
        if missing:
            entries |= zip(missing, await self._embed(spec, missing, stages), strict=True)
        found = [entries[text] for text in texts]
        return TextEmbeddings(
            embeddings=stacked([entry.embedding for entry in found]),
            truncated=[i for i, entry in enumerate(found) if entry.truncated],
            tokens=sum(entry.tokens for entry in found),
        )

    async def _embed(self, spec: EncoderSpec, texts: Sequence[str], stages: Stages) -> list[TextEmbedding]:
        with stages.measure("tokenize"):
            tokenize = partial(_tokenize, texts, spec.context_length)
            if sum(map(len, texts)) <= _INLINE_CHARACTERS:
                encodings = tokenize()
            else:
                encodings = await asyncio.get_running_loop().run_in_executor(self._pool, tokenize)
        tokens = stacked([encoding.tokens for encoding in encodings])
        size = spec.text.max_batch_size
        groups = [tokens[i : i + size] for i in range(0, len(tokens), size)]
        stages.batches += [("text", len(group)) for group in groups]
        with stages.measure("encode"):
            parts = await gather([self._encoder.encode_texts(spec, group) for group in groups])
        rows = [row for part in parts for row in part]
        entries = [
            # A copy of the row, or it would keep the whole batch alive in the cache.
            TextEmbedding(row.copy(), encoding.length, encoding.truncated)
            for row, encoding in zip(rows, encodings, strict=True)
        ]
        for text, entry in zip(texts, entries, strict=True):
            self._cache.put(spec, text, entry)
        return entries


def _tokenize(texts: Sequence[str], context_length: int) -> list[Encoding]:
    tokenizer = Tokenizer(context_length)
    return [tokenizer.encode(text) for text in texts]
