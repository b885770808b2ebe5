import html
import random
import threading
import time

import ftfy
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.texts.tokenizer import _TOKEN_BYTES, Tokenizer, _bpe, clean

START, END = 49406, 49407
# More tokens than any text of these tests has.
ALL = 1_000_000


def ascii_start(text: str) -> str:
    return ascii(text[:8])


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
    assert clean(text, ALL) == cleaned


def test_truncation_keeps_the_end_token_and_is_reported() -> None:
    fits, cut = Tokenizer(8).encode("dog " * 6), Tokenizer(8).encode("dog " * 7)
    assert (fits.truncated, cut.truncated) == (False, True)
    np.testing.assert_array_equal(fits.tokens, cut.tokens)
    assert cut.tokens[-1] == END


@pytest.mark.parametrize(
    "text",
    [
        *("x" * 200_000, "ab " * 60_000, "é" * 100_000, "!?" * 100_000, "&amp;" * 40_000),
        "e" + "\u0300" * 64_000 + "\u0316" * 64_000,  # marks that `unicodedata.normalize` sorts
        ("&" + "amp;" * 100 + "\n") * 300,  # each pass of ftfy decodes one of them
        "é\n" * 64_000,
        "\u3000\n" * 64_000 + "word " * 40,
    ],
    ids=ascii_start,
)
def test_long_texts_take_no_more_than_linear_time(text: str) -> None:
    """Quadratic steps would take minutes, so the bound of 10 s holds on any machine."""
    start = time.process_time()
    assert Tokenizer(32).encode(text).truncated
    assert time.process_time() - start < 10


def test_long_texts_do_not_keep_the_lock_of_python() -> None:
    """Another thread goes on while a text is tokenized. Without pieces, it waits 26 s."""
    stalls = []
    done = threading.Event()

    def watch() -> None:
        last = time.perf_counter()
        while not done.wait(0.001):
            stalls.append((now := time.perf_counter()) - last)
            last = now

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(10):
        Tokenizer(32).encode("e" + "\u0300" * 64_000 + "\u0316" * 64_000)
    done.set()
    watcher.join()
    assert max(stalls, default=0.0) < 2


@pytest.mark.parametrize(
    "text",
    [
        "a &lt;b&gt; " * 100 + "\n&lt;" + " <tag> &amp;" * 100 + "\n&eacute;",  # no entities from the tag's line on
        "schÃ¶n\n" * 200,
        " " * 2_000 + "ΟΔΟΣ",
        "&nbsp;" * 1_000 + "&amp;amp;",
        "\u3000" * 5_000 + "é",
        "猫犬" * 2_000,
        "x" * 3_000 + " y",
        "=" * 510 + "&amp;" + "=" * 600,  # an entity where a piece would end
    ],
    ids=ascii_start,
)
def test_pieces_of_a_long_text_make_the_text_that_is_cleaned_at_once(text: str) -> None:
    assert clean(text, ALL) == " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split()).lower()


def test_the_shortest_context_holds_the_start_and_end_tokens() -> None:
    assert ids("anything", 2) == [START, END]
    with pytest.raises(ValueError, match="at least"):
        Tokenizer(1)


@given(st.text(st.characters(max_codepoint=0x7F)))
def test_the_shortcut_for_ascii_gives_the_same_text(text: str) -> None:
    thoroughly = html.unescape(html.unescape(ftfy.fix_text(text)))
    assert clean(text, ALL) == " ".join(thoroughly.split()).lower()


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
    assert clean(reference, ALL) == character


def test_the_start_of_a_long_word_has_the_tokens_of_the_whole_word() -> None:
    pairs = _bpe()
    rng = random.Random(1)
    for alphabet in ("x", "ab", "ha", "!?", "aeiou", "猫犬", "😂😍", "é", "=-"):
        word = "".join(rng.choices(alphabet, k=20_000))
        for limit in (6, 30, 70):
            ids = pairs.ids(word, limit)
            assert len(ids) > limit
            assert tuple(ids[:limit]) == pairs._merge(word.encode())[:limit]


def test_the_longest_token() -> None:
    pairs = _bpe()
    names = [pairs._model.id_to_token(place) for place in range(pairs.start)]
    assert max(len(name.removesuffix("</w>")) for name in names if name) == _TOKEN_BYTES


def test_long_words_are_not_cached() -> None:
    """Clients could fill the memory with words of 32 letters, whose 128 bytes are tokens."""
    cached = _bpe()._merge_short.cache_info
    for word, size in (("\U00012000" * 32, 0), ("\U00012001" * 8, 1)):
        before = cached().currsize
        Tokenizer(32).encode(word)
        assert cached().currsize - before == size
