import io

import numpy as np
from PIL import Image

from deploy.bench.resilience import decompression_bomb


def test_the_bomb_is_small_and_holds_all_its_pixels() -> None:
    data = decompression_bomb.bomb(side=2000)
    assert len(data) < 6_000
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.mode) == ("PNG", "L")
        assert np.asarray(image).shape == (2000, 2000)
