"""Resize RGB pixels to the vision tower's input size.

The reference resizes without keeping the aspect ratio, by Pillow's antialiased bilinear filter:
https://github.com/facebookresearch/perception_models/blob/main/core/vision_encoder/transforms.py. The exported graph
contains the normalisation.
"""

import numpy as np
from PIL import Image

from gateway.encoder import Pixels
from gateway.images.resize import resize


def preprocess(image: Image.Image, image_size: tuple[int, int]) -> Pixels:
    """Resize an RGB image to `image_size` (H, W).

    Returns:
        uint8 [H, W, 3].
    """
    height, width = image_size
    if image.size != (width, height):
        image = resize(image, (width, height))
    return np.asarray(image)
