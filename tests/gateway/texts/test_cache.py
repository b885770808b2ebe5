from dataclasses import replace

import numpy as np

from gateway.encoder import EncoderSpec
from gateway.texts.cache import TextCache, TextEmbedding
from tests.fakes import fake_spec


def entry(value: float = 1) -> TextEmbedding:
    return TextEmbedding(np.full(8, value, np.float32), 3, truncated=False)


def with_version(spec: EncoderSpec, version: str) -> EncoderSpec:
    return replace(spec, text=replace(spec.text, version=version))


def test_hits_and_misses_are_counted() -> None:
    cache, spec = TextCache(10_000), fake_spec()
    assert cache.get(spec, "a") is None
    cache.put(spec, "a", entry())
    assert cache.get(spec, "a") is not None
    assert cache.get(spec, "A") is None
    assert (cache.hits, cache.misses) == (1, 2)


def test_each_variant_has_its_own_entries() -> None:
    cache = TextCache(10_000)
    cache.put(fake_spec("A"), "a", entry())
    assert cache.get(fake_spec("B"), "a") is None


def test_the_least_recently_used_entry_is_evicted_first_and_bytes_add_up() -> None:
    cache, spec = TextCache(3_000), fake_spec()
    for name in "abcd":
        cache.put(spec, name, entry())
    cache.get(spec, "a")
    before = cache.bytes
    cache.put(spec, "a", entry(2))  # replaces the entry, so the size stays the same
    assert cache.bytes == before
    for name in "ef":
        cache.put(spec, name, entry())
    assert cache.bytes <= 3_000
    kept = [name for name in "abcdef" if cache.get(spec, name)]
    assert "a" in kept
    assert "b" not in kept
    assert kept[-1] == "f"


def test_an_entry_above_the_limit_evicts_nothing() -> None:
    cache, spec = TextCache(3_000), fake_spec()
    cache.put(spec, "a", entry())
    cache.put(spec, "b" * 5_000, entry())
    assert cache.get(spec, "a")
    assert not cache.get(spec, "b" * 5_000)


def test_zero_bytes_disable_the_cache() -> None:
    cache, spec = TextCache(0), fake_spec()
    cache.put(spec, "a", entry())
    assert cache.get(spec, "a") is None
    assert cache.bytes == 0


def test_a_new_version_evicts_the_entries_of_its_variant_only() -> None:
    cache, spec, other = TextCache(10_000), fake_spec("A"), fake_spec("B")
    for each in (spec, other):
        cache.get(each, "a")
        cache.put(each, "a", entry())
    assert cache.get(with_version(spec, "2"), "a") is None
    assert cache.get(other, "a")
    assert cache.get(spec, "a") is None  # version 1 again, whose entries were evicted
    assert 0 < cache.bytes < 1_200


def test_a_new_version_of_the_same_weights_evicts_nothing() -> None:
    cache, spec = TextCache(10_000), fake_spec()
    exported = replace(spec, text=replace(spec.text, certificate={"checkpoint_sha256": "a"}))
    cache.put(exported, "a", entry())
    fp16 = {"checkpoint_sha256": "a", "precision": "fp16"}
    assert cache.get(replace(exported, text=replace(exported.text, version="2", certificate=fp16)), "a")
    assert (
        cache.get(replace(exported, text=replace(exported.text, certificate={"checkpoint_sha256": "b"})), "a") is None
    )


def test_an_equal_spec_evicts_nothing() -> None:
    cache = TextCache(10_000)
    cache.get(fake_spec(), "a")
    cache.put(fake_spec(), "a", entry())
    assert cache.get(fake_spec(), "a")


def test_an_embedding_of_the_previous_version_is_not_stored() -> None:
    cache, old = TextCache(10_000), fake_spec()
    new = with_version(old, "2")
    cache.get(old, "a")  # a miss, and while Triton embeds the text,
    cache.get(new, "b")  # the version changes
    cache.put(old, "a", entry())
    assert cache.get(new, "a") is None
    assert cache.bytes == 0
