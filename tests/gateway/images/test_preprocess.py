import numpy as np
import pytest
from PIL import Image

from gateway.images.preprocess import preprocess


@pytest.mark.parametrize("size", [(640, 480), (37, 911), (1, 1), (336, 448), (5000, 3)])
def test_the_aspect_ratio_is_not_kept(size: tuple[int, int]) -> None:
    pixels = preprocess(Image.new("RGB", size, (10, 20, 30)), (48, 64))
    assert pixels.shape == (48, 64, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == (10, 20, 30)).all()


def test_nothing_is_cropped() -> None:
    image = Image.new("RGB", (300, 100))
    image.paste((255, 0, 0), (0, 0, 30, 100))
    image.paste((0, 0, 255), (270, 0, 300, 100))
    pixels = preprocess(image, (20, 20))
    assert pixels[:, 0, 0].min() > 200
    assert pixels[:, -1, 2].min() > 200


def test_an_image_of_the_input_size_is_not_resized() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    np.testing.assert_array_equal(preprocess(Image.fromarray(noise), (32, 32)), noise)
