"""PE-Demo-T8-64 for open_clip: PE-Core's tiny vision tower shrunk, and a small text tower.

open_clip 3.3 hands timm a model's name but no arguments for it, so the shrunk vision tower needs a name of its own in
timm's registry. `register` puts it there, and the JSON beside this file into open_clip's; from then on
`open_clip.create_model("PE-Demo-T8-64")` works as it does for the big siblings.
"""

from pathlib import Path
from typing import Any

import open_clip
from timm.models import is_model, register_model
from timm.models.eva import vit_pe_core_tiny_patch16_384
from torch import nn

VARIANT = "PE-Demo-T8-64"
MODEL_CONFIG = Path(__file__).with_name(f"{VARIANT}.json")
CHECKPOINT = Path(__file__).with_name(f"{VARIANT}.safetensors")

# What open_clip's table of published weights says of every PE-Core (open_clip/pretrained.py, `_pecfg`).
PREPROCESS = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "interpolation": "bilinear", "resize_mode": "squash"}

SHRUNK = {
    "img_size": 64,
    "patch_size": 8,
    "ref_feat_shape": (8, 8),  # rotary grid: 64 / 8 patches a side, as 384 / 16 = 24 in PE-Core-T16-384
    "embed_dim": 64,
    "depth": 4,
    "num_heads": 2,
}


def vit_pe_demo_tiny_patch8_64(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """timm's PE-Core-T vision tower with `SHRUNK` sizes; there are no published weights for `pretrained`."""
    model: nn.Module = vit_pe_core_tiny_patch16_384(pretrained=pretrained, **{**SHRUNK, **kwargs})
    return model


def register() -> None:
    """Make the variant known to timm and open_clip; harmless when repeated."""
    if not is_model(vit_pe_demo_tiny_patch8_64.__name__):
        register_model(vit_pe_demo_tiny_patch8_64)
    open_clip.add_model_config(MODEL_CONFIG)


def create_model() -> open_clip.CustomTextCLIP:
    """The variant with random weights (torch's generator decides), FP32, preprocessing facts attached."""
    register()
    return open_clip.create_model(VARIANT, force_preprocess_cfg=PREPROCESS)
