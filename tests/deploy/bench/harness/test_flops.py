import pytest

from deploy.bench.harness import flops


@pytest.mark.parametrize(
    ("variant", "size", "published"),
    # GFLOP per image, from timm's results: twice its GMAC (L14), and its `vit_pe_core_base_patch16_224`.
    [("PE-Core-L14-336", 336, 384.7), ("PE-Core-B16-224", 224, 35.9)],
)
def test_vision_towers_are_as_large_as_published(variant: str, size: int, published: float) -> None:
    assert flops.vision_gflop(variant, size) == pytest.approx(published, rel=0.01)


def test_text_towers() -> None:
    assert flops.text_gflop("PE-Core-L14-336", 32) == pytest.approx(19.4, rel=0.01)
    assert flops.text_gflop("Unheard-of", 32) is None
