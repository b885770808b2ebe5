import html
import time

import ftfy
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.texts.tokenizer import Tokenizer, _bpe, clean

START, END = 49406, 49407


def ids(text: str, context_length: int = 16) -> list[int]:
    tokens = Tokenizer(context_length).encode(text).tokens
    assert tokens.dtype == np.int32
    assert tokens.shape == (context_length,)
    return tokens.tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Token ids of CLIP's own tokenizer, as https://github.com/openai/CLIP gives them.
        ("", []),
        ("   ", []),
        ("a photo of a cat", [320, 1125, 539, 320, 2368]),
        ("A  PHOTO\tof a\ncat ", [320, 1125, 539, 320, 2368]),
        ("<start_of_text>a<end_of_text>", [START, 320, END]),
        ("<START_OF_TEXT>", [START]),
        ("hello world!", [3306, 1002, 256]),
    ],
)
def test_known_texts(text: str, expected: list[int]) -> None:
    whole = [START, *expected, END]
    assert ids(text) == whole + [0] * (16 - len(whole))


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("schÃ¶n", "schön"),  # mojibake
        ("Tom &amp;amp; Jerry", "tom & jerry"),  # escaped twice
        ("ΟΔΟΣ", "οδος"),  # a final sigma
        ("\u3000wide\u00a0space ", "wide space"),
        ("\ud800", "\ufffd"),
    ],
)
def test_cleaning(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


def test_truncation_keeps_the_end_token_and_is_reported() -> None:
    fits, cut = Tokenizer(8).encode("dog " * 6), Tokenizer(8).encode("dog " * 7)
    assert (fits.truncated, cut.truncated) == (False, True)
    np.testing.assert_array_equal(fits.tokens, cut.tokens)
    assert cut.tokens[-1] == END


@pytest.mark.parametrize("text", ["x" * 200_000, "ab " * 60_000, "é" * 100_000, "!?" * 100_000, "&amp;" * 40_000])
def test_long_texts_take_no_more_than_linear_time(text: str) -> None:
    """A quadratic merge would take minutes, so the bound of 10 s holds on any machine."""
    start = time.perf_counter()
    assert Tokenizer(32).encode(text).truncated
    assert time.perf_counter() - start < 10


def test_the_shortest_context_holds_the_start_and_end_tokens() -> None:
    assert ids("anything", 2) == [START, END]
    with pytest.raises(ValueError, match="at least"):
        Tokenizer(1)


@given(st.text(st.characters(max_codepoint=0x7F)))
def test_the_shortcut_for_ascii_gives_the_same_text(text: str) -> None:
    thoroughly = html.unescape(html.unescape(ftfy.fix_text(text)))
    assert clean(text) == " ".join(thoroughly.split()).lower()


@pytest.mark.parametrize(
    ("reference", "character"),
    [
        ("&#00065;", "a"),
        ("&#" + "0" * 5_000 + "65;", "a"),
        ("&#0;", "\ufffd"),
        ("&#000", "\ufffd"),
        ("&#1114112;", "\ufffd"),
        ("&#00012345678;", "\ufffd"),
        ("&#" + "9" * 5_000 + ";", "\ufffd"),
        ("&#" + "9" * 5_000 + "x", "\ufffdx"),
    ],
    ids=lambda value: value[:12],
)
def test_character_references_of_any_length(reference: str, character: str) -> None:
    """Python's `int` refuses numbers of 4,300 digits, which `html.unescape` passes to it."""
    assert clean(reference) == character


@pytest.mark.parametrize("word", ["x" * 5_000, "😀" * 2_000, "ab" * 600, "!?" * 3_000])
def test_long_words_have_the_tokens_of_the_same_merges(word: str) -> None:
    """They are merged by another function, which releases Python's lock."""
    pairs = _bpe()
    characters = "".join(pairs._byte_characters[byte] for byte in word.encode())
    assert list(pairs._merge(word)) == [token.id for token in pairs._model.tokenize(characters)]
