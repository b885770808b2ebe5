from dataclasses import replace

import numpy as np

from gateway.encoder import EncoderSpec
from gateway.texts.cache import TextCache, TextEmbedding
from tests.fakes import fake_spec


def entry(value: float = 1) -> TextEmbedding:
    return TextEmbedding(np.full(8, value, np.float32), 3, truncated=False)


def served_anew(spec: EncoderSpec, version: str) -> EncoderSpec:
    return replace(spec, text=replace(spec.text, version=version))


def test_hits_and_misses_are_counted() -> None:
    cache, spec = TextCache(10_000), fake_spec()
    assert cache.get(spec, "a") is None
    cache.put(spec, "a", entry())
    assert cache.get(spec, "a") is not None
    assert cache.get(spec, "A") is None
    assert (cache.hits, cache.misses) == (1, 2)


def test_variants_do_not_share() -> None:
    cache = TextCache(10_000)
    cache.put(fake_spec("A"), "a", entry())
    assert cache.get(fake_spec("B"), "a") is None


def test_the_least_recently_used_goes_first_and_bytes_add_up() -> None:
    cache, spec = TextCache(3_000), fake_spec()
    for name in "abcd":
        cache.put(spec, name, entry())
    cache.get(spec, "a")
    before = cache.bytes
    cache.put(spec, "a", entry(2))  # again, which costs nothing more
    assert cache.bytes == before
    for name in "ef":
        cache.put(spec, name, entry())
    assert cache.bytes <= 3_000
    kept = [name for name in "abcdef" if cache.get(spec, name)]
    assert "a" in kept
    assert "b" not in kept
    assert kept[-1] == "f"


def test_what_is_too_large_alone_throws_nothing_out() -> None:
    cache, spec = TextCache(3_000), fake_spec()
    cache.put(spec, "a", entry())
    cache.put(spec, "b" * 5_000, entry())
    assert cache.get(spec, "a")
    assert not cache.get(spec, "b" * 5_000)


def test_zero_turns_it_off() -> None:
    cache, spec = TextCache(0), fake_spec()
    cache.put(spec, "a", entry())
    assert cache.get(spec, "a") is None
    assert cache.bytes == 0


def test_a_new_version_empties_it_for_its_variant_alone() -> None:
    cache, spec, other = TextCache(10_000), fake_spec("A"), fake_spec("B")
    for each in (spec, other):
        cache.get(each, "a")
        cache.put(each, "a", entry())
    assert cache.get(served_anew(spec, "2"), "a") is None
    assert cache.get(other, "a")
    assert cache.get(spec, "a") is None  # back to version 1: it was forgotten
    assert 0 < cache.bytes < 1_200


def test_the_same_description_read_again_empties_nothing() -> None:
    cache = TextCache(10_000)
    cache.get(fake_spec(), "a")
    cache.put(fake_spec(), "a", entry())
    assert cache.get(fake_spec(), "a")


def test_an_answer_of_the_version_before_is_not_kept() -> None:
    cache, old = TextCache(10_000), fake_spec()
    new = served_anew(old, "2")
    cache.get(old, "a")  # asked for, and while Triton works on it
    cache.get(new, "b")  # the version changes
    cache.put(old, "a", entry())
    assert cache.get(new, "a") is None
    assert cache.bytes == 0
