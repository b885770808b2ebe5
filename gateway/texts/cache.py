"""Cache the embeddings of texts. Prompts repeat, images rarely do."""

import sys
from collections import OrderedDict
from typing import Final, NamedTuple

from gateway.encoder import Embeddings, EncoderSpec

# The memory of an entry besides its text and its numbers: the key's tuple, two slots of the table, the array's header.
# Measured with tracemalloc on CPython 3.11, and rounded up.
_ENTRY_BYTES: Final = 500


class TextEmbedding(NamedTuple):
    """The embedding of a text, float32 [D], its number of tokens with start and end, and whether it was truncated."""

    embedding: Embeddings
    tokens: int
    truncated: bool


class TextCache:
    """An LRU cache with a byte limit. It has no lock, because only one event loop uses it.

    A change of a variant's embedding space evicts the entries of the variant.

    Args:
        max_bytes: the limit for keys and values; 0 disables the cache.

    Attributes:
        bytes: the current size.
        hits: the number of lookups that found an entry.
        misses: the number of lookups that found none.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[tuple[str, str], TextEmbedding] = OrderedDict()
        self._specs: dict[str, EncoderSpec] = {}
        self.bytes = 0
        self.hits = 0
        self.misses = 0

    def get(self, spec: EncoderSpec, text: str) -> TextEmbedding | None:
        """Look up the embedding of a text in the current embedding space of a variant."""
        self._evict_if_replaced(spec)
        key = (spec.variant, text)
        if (entry := self._entries.get(key)) is None:
            self.misses += 1
            return None
        self._entries.move_to_end(key)
        self.hits += 1
        return entry

    def put(self, spec: EncoderSpec, text: str, entry: TextEmbedding) -> None:
        """Store an entry, unless it exceeds the limit or the embedding space changed while it was computed."""
        size = _size(text, entry)
        current = self._specs.get(spec.variant, spec)
        # Comparing two spaces takes longer than the rest.
        if size > self._max_bytes or (current is not spec and current.space != spec.space):
            return
        self._remove((spec.variant, text))
        self._entries[spec.variant, text] = entry
        self.bytes += size
        while self.bytes > self._max_bytes:
            self._remove(next(iter(self._entries)))

    def _evict_if_replaced(self, spec: EncoderSpec) -> None:
        known = self._specs.get(spec.variant)
        # While nothing changes in Triton, the spec is the same object. Comparing two spaces takes longer.
        if known is spec:
            return
        self._specs[spec.variant] = spec
        if known is not None and known.space != spec.space:
            for key in [key for key in self._entries if key[0] == spec.variant]:
                self._remove(key)

    def _remove(self, key: tuple[str, str]) -> None:
        if (entry := self._entries.pop(key, None)) is not None:
            self.bytes -= _size(key[1], entry)


def _size(text: str, entry: TextEmbedding) -> int:
    return sys.getsizeof(text) + entry.embedding.nbytes + _ENTRY_BYTES
