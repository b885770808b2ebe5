"""`resize` gives the values of Pillow's resize, except for rounding."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from gateway.images import resize as module
from gateway.images.resize import resize
from tests.pictures import PHOTOGRAPHS

NOISE: Final = Image.fromarray(np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8))


def differences(image: Image.Image, size: tuple[int, int]) -> NDArray[np.int16]:
    """The absolute difference of each value from Pillow's."""
    expected = np.asarray(image.resize(size, Image.Resampling.BILINEAR)).astype(np.int16)
    resized = resize(image, size)
    assert (resized.mode, resized.size) == ("RGB", size)
    found: NDArray[np.int16] = np.abs(np.asarray(resized).astype(np.int16) - expected)
    return found


@pytest.mark.parametrize("size", [(64, 64), (224, 224), (336, 336), (448, 448)])
@pytest.mark.parametrize("path", PHOTOGRAPHS, ids=lambda path: path.name)
def test_photographs_are_resized_as_pillow_does(path: Path, size: tuple[int, int]) -> None:
    found = differences(Image.open(path).convert("RGB"), size)
    assert found.max() <= 1
    assert (found > 0).mean() < 0.005


@pytest.mark.parametrize(
    "old",
    [(1, 1), (2, 3), (223, 225), (224, 1), (1, 224), (5000, 3), (100, 10_000), (100, 10_001), (3, 5000), (1, 100_000)],
    ids=str,
)
def test_noise_of_any_shape_is_resized_as_pillow_does(old: tuple[int, int]) -> None:
    found = differences(NOISE.resize(old, Image.Resampling.NEAREST), (224, 224))
    assert found.max() <= 1
    assert (found > 0).mean() < 0.02  # the weights are less exact, the more values contribute to one


def test_a_direction_that_has_the_size_already_is_not_resized() -> None:
    assert differences(NOISE, (640, 100)).max() <= 1
    assert differences(NOISE, (100, 480)).max() <= 1


def test_a_very_tall_image_is_resized_vertically_first() -> None:
    """Horizontally first, the intermediate image would have 224 x 400,000 pixels."""
    assert list(module._steps((1, 400_000), (224, 224))) == [(1, 224), (224, 224)]


def test_concurrent_threads_get_correct_results() -> None:
    images = [NOISE.rotate(angle) for angle in range(16)]
    expected = [np.asarray(resize(image, (224, 224))) for image in images]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            for ours, alone in zip(pool.map(lambda image: resize(image, (224, 224)), images), expected, strict=True):
                np.testing.assert_array_equal(np.asarray(ours), alone)


def test_the_input_image_is_not_modified() -> None:
    before = NOISE.tobytes()
    resize(NOISE, (224, 224))
    assert NOISE.tobytes() == before


def test_without_cykooz_resizer_pillow_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert module._local is not None, (
        "cykooz-resizer is not installed: all of this file would compare Pillow with itself"
    )
    monkeypatch.setattr(module, "_local", None)
    assert differences(NOISE, (224, 224)).max() == 0
