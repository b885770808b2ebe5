"""The losses of training: the contrastive loss, and a second loss without which the small tower learns no shapes."""

from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from export.demo.captions import FALSE, TRUE, group_field
from export.demo.pictures import COLOURS, SHAPES

BACKGROUND_WEIGHT: Final = 0.1
"""Weight of a patch without a shape in the second loss. Most patches have no shape."""


def contrastive_loss(logits: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Compute the mean of the softmax losses in both directions, pictures to captions and captions to pictures.

    Many captions of a batch are true of several of its pictures. So `known`, not the pairing, decides what is positive.
    Each true pair is compared with all false pairs of its row. Unsure pairs are ignored. With one true pair per row and
    no unsure pairs, this is CLIP's loss.

    Args:
        logits: float32 [pictures, captions].
        known: FALSE, UNSURE or TRUE, int8 [pictures, captions], from `truth`.

    Returns:
        A float32 scalar.
    """
    return (_one_way(logits, known) + _one_way(logits.T, known.T)) / 2


def _one_way(logits: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Compute log(1 + sum(exp(false)) / exp(p)), averaged over the true pairs p of a row, then over the rows.

    Rows without a true pair are left out.
    """
    true = known == TRUE
    rivals = logits.masked_fill(known != FALSE, -torch.inf).logsumexp(dim=1, keepdim=True)
    losses = (F.softplus(rivals - logits) * true).sum(dim=1)
    number = true.sum(dim=1)
    return (losses[number > 0] / number[number > 0]).mean()


class Attributes(nn.Module):
    """Linear heads that name the colours and shapes of the picture and of each patch. The checkpoint omits them.

    From captions alone, so small a transformer learnt colours within minutes, but no shape in 700 steps. The heads name
    colours and shapes separately, so they reveal no combination, and so no held-out combination.
    """

    def __init__(self, width: int, embed_dim: int) -> None:
        super().__init__()
        self.sizes = {"colour": 1 + len(COLOURS), "shape": 1 + len(SHAPES)}
        self.of_patch = nn.ModuleDict({name: nn.Linear(width, size) for name, size in self.sizes.items()})
        self.of_picture = nn.ModuleDict({name: nn.Linear(embed_dim, size) for name, size in self.sizes.items()})

    def loss(
        self, patches: torch.Tensor, embedding: torch.Tensor, scenes: np.ndarray, owners: np.ndarray
    ) -> torch.Tensor:
        """Compute the sum of the heads' losses.

        Args:
            patches: features of the patches, float32 [N, 64, width].
            embedding: unit-length embeddings of the pictures, float32 [N, D].
            scenes: encoded scenes, int8 [N, WIDTH].
            owners: the group that covers each patch, int8 [N, 64], as in `Dataset.patches`.

        Returns:
            A float32 scalar.
        """
        total = embedding.new_zeros(())
        for name, size in self.sizes.items():
            values = torch.from_numpy(group_field(scenes, name).astype(np.int64))  # [N, 2]; 0 means no second group
            of_patch = F.pad(values, (1, 0)).gather(1, torch.from_numpy(owners.astype(np.int64)))  # [N, 64]
            weight = torch.ones(size)
            weight[0] = BACKGROUND_WEIGHT
            total = total + F.cross_entropy(self.of_patch[name](patches).flatten(0, 1), of_patch.flatten(), weight)
            present = F.one_hot(values, size).amax(dim=1)[:, 1:].float()
            # A unit vector gives small logits, and this loss is averaged over names. The factors 8 and 3 compensate.
            logits = self.of_picture[name](8.0 * embedding)[:, 1:]
            total = total + 3.0 * F.binary_cross_entropy_with_logits(logits, present)
        return total
