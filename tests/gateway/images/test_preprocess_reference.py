"""`preprocess` gives the pixels of the reference's transform, on photographs.

The exporter's environment has no cykooz-resizer, so Pillow resizes here. test_resize.py compares the two resizers.
"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gateway.images.preprocess import preprocess
from tests.pictures import PHOTOGRAPHS

pytestmark = pytest.mark.export


@pytest.mark.parametrize("path", PHOTOGRAPHS, ids=lambda path: path.name)
@pytest.mark.parametrize("size", [64, 224, 336, 448])
def test_it_equals_open_clips_transform(path: Path, size: int) -> None:
    """open_clip builds its transform from the checkpoint's configuration: squash, bilinear, mean and std 0.5."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    configuration = PreprocessCfg(
        size=size, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bilinear", resize_mode="squash"
    )
    image = Image.open(path).convert("RGB")  # `decode` gives the same: test_decode.py
    reference = image_transform_v2(configuration, is_train=False)(image)
    pixels = preprocess(image, (size, size))
    ours = (pixels.transpose(2, 0, 1) / np.float32(255) - 0.5) / 0.5
    np.testing.assert_allclose(ours, reference.numpy(), rtol=0, atol=1e-6)
