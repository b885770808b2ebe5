import numpy as np
import pytest

from export.samples import PHOTOGRAPHS, samples
from export.variants import VARIANTS, find_variant

pytestmark = pytest.mark.export


def test_images_are_photographs_at_the_variants_size() -> None:
    images = samples(find_variant("PE-Demo-T8-64"), "vision")
    assert images.shape == (8, 64, 64, 3)
    assert images.dtype == np.uint8
    assert len(np.unique(images, axis=0)) == 8


def test_every_photograph_has_its_source_stated() -> None:
    sources = (PHOTOGRAPHS / "SOURCES.md").read_text()
    photographs = sorted(PHOTOGRAPHS.glob("*.jpg"))
    assert len(photographs) == 8
    for photograph in photographs:
        assert f"| {photograph.name} |" in sources


def test_texts_are_a_few_hundred_and_all_different() -> None:
    for variant in VARIANTS.values():
        tokens = samples(variant, "text")
        assert tokens.dtype == np.int32
        assert tokens.shape[1] == variant.context_length
        assert len(np.unique(tokens, axis=0)) == len(tokens) >= 200


def test_every_token_length_has_texts_and_one_that_fills_it() -> None:
    for variant in VARIANTS.values():
        used = (samples(variant, "text") != 0).sum(axis=1)
        for shortest, length in zip((0, *variant.token_lengths), variant.token_lengths, strict=False):
            assert ((used > shortest) & (used <= length)).sum() >= 4
            assert length in used
