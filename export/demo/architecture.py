"""The architecture PE-Demo-T8-64 for open_clip: a smaller version of PE-Core-T's vision tower, and a small text tower.

open_clip 3.3 passes a model's name to timm but no arguments. So the smaller vision tower needs a name of its own in
timm's registry. `register` adds this name, and adds the JSON file beside this module to open_clip's registry. Then
`open_clip.create_model("PE-Demo-T8-64")` works as for the other variants.
"""

from pathlib import Path
from typing import Any, Final

import open_clip
from timm.models import is_model, register_model
from timm.models.eva import vit_pe_core_tiny_patch16_384
from torch import nn

VARIANT: Final = "PE-Demo-T8-64"
MODEL_CONFIG: Final = Path(__file__).with_name(f"{VARIANT}.json")
CHECKPOINT: Final = Path(__file__).with_name(f"{VARIANT}.safetensors")

# The preprocessing of every PE-Core in open_clip's table of published weights (open_clip/pretrained.py, `_pecfg`).
PREPROCESS: Final = {
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
    "interpolation": "bilinear",
    "resize_mode": "squash",
}

SHRUNK: Final = {
    "img_size": 64,
    "patch_size": 8,
    "ref_feat_shape": (8, 8),  # rotary grid: 64 / 8 patches per side (PE-Core-T16-384 has 384 / 16 = 24)
    "embed_dim": 64,
    "depth": 4,
    "num_heads": 2,
}


def vit_pe_demo_tiny_patch8_64(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Build timm's PE-Core-T vision tower with the sizes of `SHRUNK`. No weights for `pretrained` are published."""
    model: nn.Module = vit_pe_core_tiny_patch16_384(pretrained=pretrained, **{**SHRUNK, **kwargs})
    return model


def register() -> None:
    """Register the architecture with timm and open_clip. A second call has no effect."""
    if not is_model(vit_pe_demo_tiny_patch8_64.__name__):
        register_model(vit_pe_demo_tiny_patch8_64)
    open_clip.add_model_config(MODEL_CONFIG)


def create_model() -> open_clip.CustomTextCLIP:
    """Build the model in FP32, with random weights from torch's generator, and attach the preprocessing settings."""
    register()
    return open_clip.create_model(VARIANT, force_preprocess_cfg=PREPROCESS)
