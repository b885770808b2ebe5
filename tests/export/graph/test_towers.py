from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from export.demo import architecture
from export.parity import torch_reference
from export.samples import PHOTOGRAPHS, samples
from export.variants import find_variant
from export.weights.checkpoint import load_tower, open_checkpoint

pytestmark = [pytest.mark.export, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

DEMO = find_variant("PE-Demo-T8-64")


@pytest.fixture(scope="module")
def reference(random_checkpoint: Path) -> open_clip.CustomTextCLIP:
    """Load the same checkpoint with open_clip."""
    architecture.register()
    return open_clip.create_model(DEMO.architecture, pretrained=str(random_checkpoint)).eval()


def test_vision_tower_embeds_as_open_clip_does_with_its_own_preprocessing(
    random_checkpoint: Path, reference: open_clip.CustomTextCLIP
) -> None:
    preprocess = open_clip.image_transform(
        (64, 64), is_train=False, mean=(0.5,) * 3, std=(0.5,) * 3, resize_mode="squash", interpolation="bilinear"
    )
    photographs = [Image.open(path).convert("RGB") for path in sorted(PHOTOGRAPHS.glob("*.jpg"))]
    with torch.inference_mode():
        expected = reference.encode_image(torch.stack([preprocess(photo) for photo in photographs]), normalize=True)
    opened = open_checkpoint(random_checkpoint)
    tower = load_tower(DEMO, "vision", opened)
    images = samples(DEMO, "vision")
    assert images.dtype == np.uint8
    np.testing.assert_allclose(torch_reference(tower)(images), expected.numpy(), atol=1e-6)


def test_text_tower_embeds_as_open_clip_does(random_checkpoint: Path, reference: open_clip.CustomTextCLIP) -> None:
    texts = ["a red circle", "", "two dogs " * 40]
    tokens = open_clip.SimpleTokenizer(context_length=32)(texts)
    with torch.inference_mode():
        expected = reference.encode_text(tokens, normalize=True)
    opened = open_checkpoint(random_checkpoint)
    tower = load_tower(DEMO, "text", opened)
    embeddings = torch_reference(tower)(tokens.numpy().astype(np.int32))
    np.testing.assert_allclose(embeddings, expected.numpy(), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)
