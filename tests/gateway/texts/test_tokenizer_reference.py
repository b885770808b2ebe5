"""The tokens equal those of open_clip's SimpleTokenizer, on texts for which tokenizers often differ."""

import random
from typing import Final

import numpy as np
import pytest

from gateway.texts.tokenizer import Tokenizer

pytestmark = pytest.mark.export

CONTEXT_LENGTH: Final = 32
WORDS: Final = [
    *("a photo of", "cat", "dog's", "they'LL", "IT'S", "we've", "l33t", "x" * 50, "naïve", "ﬁsh", "ΟΔΟΣ", "ΑΣ"),
    *("<start_of_text>", "<end_of_text>", "<|endoftext|>", "!<end_of_text>", "<END_OF_TEXT>"),
    *("&amp;lt;", "&#39;", "&nbsp;"),
]
ALPHABETS: Final = [
    "abcdefghijklmnopqrstuvwxyz ABC 's 'll 't",
    "ſΣσςİıßﬁͅ é ñ",  # letters without a one-to-one lower case
    "猫犬한국어русскийعربىहिन्दी ไทย",
    "<start_of_text> <end_of_text> ! ? ... -_",
    "&amp;&lt;&#39;&amp;amp;&nbsp;&#x1F600;",
    "â€™Ã©Ã¼ï¬",  # UTF-8 decoded as Latin-1
    "\x00\x01\x1b\u200b\u3000\u2028\t\r\n\u00ad",
    "0123456789½²٣Ⅷ",
    "😀👩‍👩‍👧‍👦🇩🇪🏳️‍🌈",
    "\ud800\udfff\ufffe\U0001f9ff\U00016f00\U000105c0\U0010ffff",
]


def odd_text(rng: random.Random) -> str:
    parts = []
    for _ in range(rng.randint(0, 12)):
        kind = rng.random()
        if kind < 0.4:
            parts.append(rng.choice(WORDS))
        elif kind < 0.75:
            parts.append("".join(rng.choices(rng.choice(ALPHABETS), k=rng.randint(1, 8))))
        else:
            ceilings = (0x2FF, 0xFFFF, 0x10FFFF)
            parts.append("".join(chr(rng.randint(0, rng.choice(ceilings))) for _ in range(rng.randint(1, 5))))
    return rng.choice(["", " "]).join(parts)


def test_generated_texts_have_the_tokens_of_the_reference() -> None:
    from open_clip.tokenizer import SimpleTokenizer

    reference, ours = SimpleTokenizer(context_length=CONTEXT_LENGTH), Tokenizer(CONTEXT_LENGTH)
    rng = random.Random(2026)
    texts = [odd_text(rng) for _ in range(6_000)]
    expected = reference(texts).numpy()
    different = [t for t, row in zip(texts, expected, strict=True) if not np.array_equal(ours.encode(t).tokens, row)]
    assert different == []


def test_the_vocabulary_is_that_of_the_reference() -> None:
    import gzip
    from importlib import resources

    packed = resources.files("open_clip").joinpath("bpe_simple_vocab_16e6.txt.gz").read_bytes()
    reference = gzip.decompress(packed).decode().split("\n")[1 : 49_152 - 256 - 2 + 1]
    ours = (
        gzip.decompress(resources.files("gateway.texts").joinpath("bpe_merges.txt.gz").read_bytes())
        .decode()
        .splitlines()
    )
    assert ours == reference
