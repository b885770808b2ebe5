"""Tokenize a text as CLIP's SimpleTokenizer does, in linear time.

The reference is https://github.com/openai/CLIP/blob/main/clip/simple_tokenizer.py, which open_clip and Meta's
perception_models contain too. Cleaning and splitting are the reference's own steps. Its merging takes quadratic time
(seconds for one long word), so the `tokenizers` library merges here. The usual Hugging Face recipe for a whole CLIP
tokenizer is not used: it differs on final sigmas, on special tokens after punctuation, and on characters that are newer
than its Unicode tables.

Cleaning takes quadratic time too: 26 s for 128,000 combining marks, all of it with Python's lock held. So a long text
is cleaned in pieces, and only as far as the context reaches. The tokens are the reference's, with one exception: ftfy
may repair mojibake in a long line otherwise than in a piece of it.
"""

import gzip
import html
import re
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib import resources
from typing import Final, Literal, NamedTuple

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
# Longer words rarely repeat, and clients could fill the memory with them: each byte may be a token.
_CACHED_WORD_BYTES: Final = 32
# The longest entry of the vocabulary has 32 bytes.
_TOKEN_BYTES: Final = 32
# Characters that are cleaned at once: 3 ms in the worst case, and more text than almost any context holds.
_PIECE: Final = 512
# ftfy and `unescape` do not change such texts, which most prompts are.
_PLAIN: Final = re.compile(r"[\t\n\r -%'-~]*")
# `html.unescape` reads the digits by `int`, which refuses 4,300 of them. All of these are no character, and become
# U+FFFD, and zeros before a number mean nothing.
_LONG_REFERENCE: Final = re.compile("&#[0-9]{8,}")
_LEADING_ZEROS: Final = re.compile("&#0++(?=[0-9])")


class Encoding(NamedTuple):
    """The tokens of a text, int32 [L]; the number of tokens without padding; and whether the text was truncated."""

    tokens: NDArray[np.int32]
    length: int
    truncated: bool


class Tokenizer:
    """Tokenizes for one context length L: start token, BPE tokens, end token, zeros. Thread-safe."""

    def __init__(self, context_length: int) -> None:
        if context_length < 2:
            raise ValueError("a context holds at least the start and the end token")
        self._context_length = context_length

    def encode(self, text: str) -> Encoding:
        """Tokenize any string, including lone surrogates and NULs. An empty text has the start and end tokens only."""
        bpe = _bpe()
        limit = self._context_length - 2
        ids = bpe.ids(clean(text, limit), limit)
        tokens = np.zeros(self._context_length, np.int32)
        kept = ids[:limit]
        tokens[: len(kept) + 2] = [bpe.start, *kept, bpe.end]
        return Encoding(tokens, len(kept) + 2, truncated=len(ids) > limit)


def load_vocabulary() -> None:
    """Load the vocabulary, so that the first text need not wait for it."""
    _bpe()


def is_plain(text: str) -> bool:
    """Whether cleaning the text costs next to nothing."""
    return text.isascii() and _PLAIN.fullmatch(text) is not None


def clean(text: str, max_tokens: int) -> str:
    """Clean a text as the reference does: repair mojibake, decode entities twice, collapse white space, lower case.

    Returns:
        The text. If it has more than `max_tokens` tokens, some of the others may be missing.
    """
    cleaned = ""
    words = characters = 0
    for piece, decode_entities in _pieces(text):
        if not is_plain(piece):
            piece = _unescape(_unescape(ftfy.fix_text(piece, unescape_html=decode_entities)))
        cleaned += piece
        found = piece.split()
        words += max(0, len(found) - 1)  # The first may be the end of the last piece's last word.
        characters += sum(map(len, found))
        if words > max_tokens or characters > _TOKEN_BYTES * (max_tokens + 1):
            break
    return " ".join(cleaned.split()).lower()


def _pieces(text: str) -> Iterator[tuple[str, Literal["auto", False]]]:
    """Divide a text, if possible after white space or an entity, and never within an entity.

    Yields:
        A piece, and whether ftfy decodes entities in it: not from the first line on that has a `<`.
    """
    if len(text) <= _PIECE:
        yield text, "auto"
        return
    text = _with_short_references(text)
    markup = text.find("<")
    markup = len(text) if markup < 0 else text.rfind("\n", 0, markup) + 1
    start = 0
    while start < len(text):
        end = start + _PIECE
        if start < markup < end:
            end = markup
        elif end < len(text):
            middle = start + _PIECE // 2
            after = (text.rfind(character, middle, end) + 1 for character in " \n;")
            end = max(*after, text.rfind("&", middle, end)) or end  # An entity may begin at the last "&".
        yield text[start:end], "auto" if start < markup else False
        start = end


def _unescape(text: str) -> str:
    return html.unescape(_with_short_references(text))


def _with_short_references(text: str) -> str:
    return _LONG_REFERENCE.sub("&#99999999", _LEADING_ZEROS.sub("&#", text)) if "&#" in text else text


class _BytePairs:
    """The vocabulary: 256 byte characters, the same 256 as word endings, one entry per merge, two special words."""

    def __init__(self, merges: list[tuple[str, str]]) -> None:
        self._byte_characters = _byte_characters()
        characters = list(self._byte_characters.values())
        words = [*characters, *(c + "</w>" for c in characters), *("".join(pair) for pair in merges)]
        self.start, self.end = len(words), len(words) + 1
        self._special = dict(zip(SPECIAL, ((self.start,), (self.end,)), strict=True))
        # The cache of `models.BPE` stores words of any length. This cache bounds the number and the length of words.
        self._merge_short = lru_cache(_CACHED_WORDS)(self._merge)
        self._model = models.BPE(
            {word: i for i, word in enumerate(words)},
            merges,
            cache_capacity=0,
            continuing_subword_prefix="",
            end_of_word_suffix="</w>",
        )

    def ids(self, cleaned: str, limit: int) -> list[int]:
        """Return the token ids of a cleaned text. If there are more than `limit`, some of the others are missing."""
        ids: list[int] = []
        for match in _WORDS.finditer(cleaned):
            ids += self._word(match.group(), limit)
            if len(ids) > limit:
                break
        return ids

    def _word(self, word: str, limit: int) -> tuple[int, ...]:
        if (special := self._special.get(word)) is not None:
            return special
        data = word.encode()
        if len(data) <= _CACHED_WORD_BYTES:
            return self._merge_short(data)
        # The merges of a word's start depend on few bytes after it. Twice the bytes of `limit` tokens are enough.
        return self._merge(data[: 2 * _TOKEN_BYTES * (limit + 1)])

    def _merge(self, word: bytes) -> tuple[int, ...]:
        characters = "".join([self._byte_characters[byte] for byte in word])
        return tuple(token.id for token in self._model.tokenize(characters))


def _byte_characters() -> dict[int, str]:
    """Map each byte to a printable character: itself if it is printable in Latin-1, else a code point from 256 up."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}


@cache
def _bpe() -> _BytePairs:
    """Load the vocabulary once, because all variants use the same."""
    packed = resources.files("gateway.texts").joinpath("bpe_merges.txt.gz").read_bytes()
    lines = gzip.decompress(packed).decode().splitlines()
    return _BytePairs([(first, second) for first, second in (line.split(" ") for line in lines)])
