"""Embed texts: look them up in the cache, and tokenize and encode the others."""

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

# Tokenising this many characters takes about 5 ms. Longer lists of texts are tokenised in a thread.
_INLINE_CHARACTERS: Final = 5_000


class TextEmbeddings(NamedTuple):
    """The result for N texts.

    Attributes:
        embeddings: float32 [N, D].
        truncated: the indexes of the texts that were truncated.
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
            # A copy, because a view in the cache would keep the whole batch in memory.
            TextEmbedding(row.copy(), encoding.length, encoding.truncated)
            for row, encoding in zip(rows, encodings, strict=True)
        ]
        for text, entry in zip(texts, entries, strict=True):
            self._cache.put(spec, text, entry)
        return entries


def _tokenize(texts: Sequence[str], context_length: int) -> list[Encoding]:
    tokenizer = Tokenizer(context_length)
    return [tokenizer.encode(text) for text in texts]
