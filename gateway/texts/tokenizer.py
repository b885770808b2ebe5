"""Text to tokens, exactly as CLIP's SimpleTokenizer gives them, in linear time.

The reference is https://github.com/openai/CLIP/blob/main/clip/simple_tokenizer.py, which open_clip and Meta's
perception_models carry too. Cleaning and splitting are its own steps; the merges, where it is quadratic (seconds on
one long word), are done by the ``tokenizers`` library. The usual Hugging Face recipe for a whole CLIP tokenizer is not
used: it differs on final sigmas, on special tokens after punctuation and on characters newer than its Unicode tables.
"""

import gzip
import html
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib import resources
from itertools import islice
from typing import Final, NamedTuple

import ftfy
import numpy as np
import regex
from numpy.typing import NDArray
from tokenizers import models

SPECIAL: Final = ("<start_of_text>", "<end_of_text>")
_WORDS: Final = regex.compile(
    "|".join(SPECIAL) + r"|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE
)
_CACHED_WORDS: Final = 65_536
_CACHED_WORD_LENGTH: Final = (
    32  # characters: longer words do not repeat, and would make the cache's size anyone's choice
)


class Encoding(NamedTuple):
    """Tokens of one text, int32 [L]; how many are not padding; whether the text was longer than they can say."""

    tokens: NDArray[np.int32]
    length: int
    truncated: bool


class Tokenizer:
    """Tokenizes for one context length L: start token, BPE tokens, end token, zeros. Safe to share between threads."""

    def __init__(self, context_length: int) -> None:
        if context_length < 2:
            raise ValueError("a context holds at least the start and the end token")
        self._context_length = context_length

    def encode(self, text: str) -> Encoding:
        """Any string, lone surrogates and NULs included; "" gives the start and end tokens alone."""
        bpe = _bpe()
        room = self._context_length - 2
        # One more than fits is enough to know that the text was cut.
        ids = list(islice(bpe.ids(clean(text)), room + 1))
        tokens = np.zeros(self._context_length, np.int32)
        kept = ids[:room]
        tokens[: len(kept) + 2] = [bpe.start, *kept, bpe.end]
        return Encoding(tokens, len(kept) + 2, truncated=len(ids) > room)


def load_vocabulary() -> None:
    """Reads the vocabulary, which the first text would do otherwise."""
    _bpe()


def clean(text: str) -> str:
    """The reference's cleaning: mojibake repaired, entities decoded twice, white space collapsed, lower case."""
    # Printable ASCII without entities is what both leave as it is, and what most prompts are.
    if not (text.isascii() and text.isprintable() and "&" not in text):
        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


class _BytePairs:
    """The vocabulary: 256 byte characters, the same ending a word, one entry a merge, the two special words."""

    def __init__(self, merges: list[tuple[str, str]]) -> None:
        self._byte_characters = _byte_characters()
        characters = list(self._byte_characters.values())
        words = [*characters, *(c + "</w>" for c in characters), *("".join(pair) for pair in merges)]
        self.start, self.end = len(words), len(words) + 1
        self._special = dict(zip(SPECIAL, ((self.start,), (self.end,)), strict=True))
        # Its own cache holds words of any length; ours is bounded in both directions.
        self._merge_short = lru_cache(_CACHED_WORDS)(self._merge)
        self._model = models.BPE(
            {word: i for i, word in enumerate(words)},
            merges,
            cache_capacity=0,
            continuing_subword_prefix="",
            end_of_word_suffix="</w>",
        )

    def ids(self, cleaned: str) -> Iterator[int]:
        """Token ids of a cleaned text, as they are needed."""
        for match in _WORDS.finditer(cleaned):
            yield from self._word(match.group())

    def _word(self, word: str) -> tuple[int, ...]:
        if (special := self._special.get(word)) is not None:
            return special
        return self._merge_short(word) if len(word) <= _CACHED_WORD_LENGTH else self._merge(word)

    def _merge(self, word: str) -> tuple[int, ...]:
        characters = "".join([self._byte_characters[byte] for byte in word.encode()])
        return tuple(token.id for token in self._model.tokenize(characters))


def _byte_characters() -> dict[int, str]:
    """Each byte's printable stand-in: itself where it prints in Latin-1, else the next code point from 256 up."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}


@cache
def _bpe() -> _BytePairs:
    """The vocabulary is the same for every variant, so it is read once."""
    packed = resources.files("gateway.texts").joinpath("bpe_merges.txt.gz").read_bytes()
    lines = gzip.decompress(packed).decode().splitlines()
    return _BytePairs([(first, second) for first, second in (line.split(" ") for line in lines)])
