import dataclasses

import pytest

from export.errors import UnknownVariant
from export.variants import DEFAULT_VARIANT, VARIANTS, find_variant


def test_every_pe_core_size_and_the_demo_are_there() -> None:
    assert list(VARIANTS) == [
        "PE-Core-T16-384",
        "PE-Core-S16-384",
        "PE-Core-B16-224",
        "PE-Core-L14-336",
        "PE-Core-G14-448",
        "PE-Demo-T8-64",
    ]
    assert DEFAULT_VARIANT in VARIANTS


def test_image_size_is_the_one_in_the_name() -> None:
    for name, variant in VARIANTS.items():
        assert name.endswith(f"-{variant.image_size}")


def test_only_the_demo_carries_a_notice() -> None:
    assert [name for name, variant in VARIANTS.items() if variant.notice] == ["PE-Demo-T8-64"]
    assert "not Meta's" in VARIANTS["PE-Demo-T8-64"].notice


def test_models_are_named_after_variant_and_tower() -> None:
    variant = find_variant("PE-Core-L14-336")
    assert variant.model_name("vision") == "PE-Core-L14-336-vision"
    assert variant.input_shapes("vision") == ((336, 336, 3),)
    assert variant.input_shapes("text") == ((8,), (16,), (24,), (32,))


def test_the_last_token_length_is_the_context_length() -> None:
    for variant in VARIANTS.values():
        assert sorted(set(variant.token_lengths)) == list(variant.token_lengths)
        assert variant.token_lengths[-1] == variant.context_length
    assert find_variant("PE-Core-G14-448").token_lengths == (8, 16, 24, 32, 48, 72)


def test_letter_case_does_not_matter() -> None:
    assert find_variant("pe-core-l14-336").name == "PE-Core-L14-336"


def test_an_unknown_name_is_told_what_there_is() -> None:
    with pytest.raises(UnknownVariant, match=r"'ViT-B-32': choose from PE-Core-T16-384, .*PE-Demo-T8-64"):
        find_variant("ViT-B-32")


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        find_variant(DEFAULT_VARIANT).image_size = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("PE-Core-B-16-224", "PE-Core-B16-224"),
        ("pe-core-l14", "PE-Core-L14-336"),
        ("B16", "PE-Core-B16-224"),
        ("PE_Core_bigG_14_448", "PE-Core-G14-448"),
    ],
)
def test_a_name_that_is_nearly_right_is_corrected(name: str, nearest: str) -> None:
    with pytest.raises(UnknownVariant, match=f"; did you mean {nearest}\\?$"):
        find_variant(name)


def test_a_name_that_is_like_none_is_not() -> None:
    with pytest.raises(UnknownVariant) as caught:
        find_variant("clip")
    assert str(caught.value) == f"unknown variant 'clip': choose from {', '.join(VARIANTS)}"
