"""Embeddings of texts that repeat: prompts do, images do not."""

import sys
from collections import OrderedDict
from typing import Final, NamedTuple

from gateway.encoder import Embeddings, EncoderSpec, TowerSpec

# What an entry takes beside its text and its numbers: the key's tuple, two table slots, the array's head (measured with
# tracemalloc on CPython 3.11, rounded up).
_ENTRY_BYTES: Final = 500


class TextEmbedding(NamedTuple):
    """One text's embedding float32 [D], its tokens (start and end included), and whether it was truncated."""

    embedding: Embeddings
    tokens: int
    truncated: bool


class TextCache:
    """The most recently used, up to a number of bytes. Used on one event loop, so it needs no lock.

    A text tower that is served anew, in whatever way it differs, empties the cache of its variant.

    Args:
        max_bytes: what keys and values may take together; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[tuple[str, str], TextEmbedding] = OrderedDict()
        self._towers: dict[str, TowerSpec] = {}
        self.bytes = 0
        self.hits = 0
        self.misses = 0

    def get(self, spec: EncoderSpec, text: str) -> TextEmbedding | None:
        """The text's embedding by this variant as it is served now, if known."""
        self._forget_another(spec)
        key = (spec.variant, text)
        if (entry := self._entries.get(key)) is None:
            self.misses += 1
            return None
        self._entries.move_to_end(key)
        self.hits += 1
        return entry

    def put(self, spec: EncoderSpec, text: str, entry: TextEmbedding) -> None:
        """Keeps an entry, unless it alone is too large or the variant was replaced while it was computed."""
        size = _size(text, entry)
        if size > self._max_bytes or self._towers.get(spec.variant, spec.text) != spec.text:
            return
        self._remove((spec.variant, text))
        self._entries[spec.variant, text] = entry
        self.bytes += size
        while self.bytes > self._max_bytes:
            self._remove(next(iter(self._entries)))

    def _forget_another(self, spec: EncoderSpec) -> None:
        known = self._towers.get(spec.variant)
        # The same object as long as nothing changes in Triton; only a new one needs a closer look.
        if known is spec.text:
            return
        self._towers[spec.variant] = spec.text
        if known is not None and known != spec.text:
            for key in [key for key in self._entries if key[0] == spec.variant]:
                self._remove(key)

    def _remove(self, key: tuple[str, str]) -> None:
        if (entry := self._entries.pop(key, None)) is not None:
            self.bytes -= _size(key[1], entry)


def _size(text: str, entry: TextEmbedding) -> int:
    return sys.getsizeof(text) + entry.embedding.nbytes + _ENTRY_BYTES
