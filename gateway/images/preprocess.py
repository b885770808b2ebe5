"""RGB pixels to the vision tower's input: squashed to its size, and nothing else.

The reference squashes without keeping the aspect ratio, by Pillow's bilinear filter (antialiased; `resize.py`):
https://github.com/facebookresearch/perception_models/blob/main/core/vision_encoder/transforms.py. Normalisation is
inside the exported graph.
"""

import numpy as np
from PIL import Image

from gateway.encoder import Pixels
from gateway.images.resize import resize


def preprocess(image: Image.Image, image_size: tuple[int, int]) -> Pixels:
    """An RGB image as uint8 [H, W, 3], for ``image_size`` (H, W)."""
    height, width = image_size
    if image.size != (width, height):
        image = resize(image, (width, height))
    return np.asarray(image)
