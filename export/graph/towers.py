"""The two towers as they are served: one integer tensor in, one unit-length embedding out.

Architecture: Perception Encoder (Bolya et al., 2025, https://arxiv.org/abs/2504.13181), in the implementation of
open_clip and timm (`timm.models.eva.vit_pe_core_*`, `open_clip.transformer.TextTransformer`). Meta's code normalises
images (mean and std 0.5) and embeddings (L2 norm) outside the network. These towers do both inside, so that every
client gets the same result.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class VisionTower(nn.Module):
    """image uint8 [N, H, W, 3] (RGB) -> embedding FP32 [N, D], unit length."""

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual

    def forward(self, image: Tensor) -> Tensor:
        pixels = image.permute(0, 3, 1, 2).to(torch.float32)
        x: Tensor = self.visual((pixels / 255 - 0.5) / 0.5)
        return F.normalize(x.float(), dim=-1)


class TextTower(nn.Module):
    """tokens int32 [N, L] -> embedding FP32 [N, D], unit length."""

    def __init__(self, text: nn.Module) -> None:
        super().__init__()
        self.text = text

    def forward(self, tokens: Tensor) -> Tensor:
        x: Tensor = self.text(tokens)
        return F.normalize(x.float(), dim=-1)
