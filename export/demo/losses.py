"""What training minimises: the contrastive loss, and a second one that teaches a small tower to see shapes at all."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from export.demo.captions import FALSE, TRUE, group_field
from export.demo.pictures import COLOURS, SHAPES

BACKGROUND_WEIGHT = 0.1
"""Of a patch without a shape; most have none."""


def contrastive_loss(logits: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Both directions' softmax loss; logits float32 [pictures, captions], known int8 of the same shape (see `truth`).

    Pictures and captions of one batch repeat each other's meaning all the time, so not who was drawn with whom but what
    is true decides: every true pair stands against all false ones of its row, pairs of unsure truth count neither way.
    With one true pair a row and no unsure ones this is CLIP's loss.
    """
    return (_one_way(logits, known) + _one_way(logits.T, known.T)) / 2


def _one_way(logits: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Mean over rows and their true pairs p of log(1 + sum(exp(false)) / exp(p)); rows without a true pair are out."""
    true = known == TRUE
    rivals = logits.masked_fill(known != FALSE, -torch.inf).logsumexp(dim=1, keepdim=True)
    losses = (F.softplus(rivals - logits) * true).sum(dim=1)
    number = true.sum(dim=1)
    return (losses[number > 0] / number[number > 0]).mean()


class Attributes(nn.Module):
    """Linear heads that name the colours and shapes of the picture and of each patch; thrown away after training.

    Captions alone teach so small a transformer the colours within minutes, but no shape within the time there is. The
    heads name colours and shapes separately: they say nothing of a combination, let alone of one that is held out.
    """

    def __init__(self, width: int, embed_dim: int) -> None:
        super().__init__()
        self.sizes = {"colour": 1 + len(COLOURS), "shape": 1 + len(SHAPES)}
        self.of_patch = nn.ModuleDict({name: nn.Linear(width, size) for name, size in self.sizes.items()})
        self.of_picture = nn.ModuleDict({name: nn.Linear(embed_dim, size) for name, size in self.sizes.items()})

    def loss(
        self, patches: torch.Tensor, embedding: torch.Tensor, scenes: np.ndarray, owners: np.ndarray
    ) -> torch.Tensor:
        """patches float32 [N, 64, width], unit embedding float32 [N, D]; scenes int8 [N, WIDTH], owners [N, 64]."""
        total = embedding.new_zeros(())
        for name, size in self.sizes.items():
            values = torch.from_numpy(group_field(scenes, name).astype(np.int64))  # [N, 2], 0: no second group
            of_patch = F.pad(values, (1, 0)).gather(1, torch.from_numpy(owners.astype(np.int64)))  # [N, 64]
            weight = torch.ones(size)
            weight[0] = BACKGROUND_WEIGHT
            total = total + F.cross_entropy(self.of_patch[name](patches).flatten(0, 1), of_patch.flatten(), weight)
            present = F.one_hot(values, size).amax(dim=1)[:, 1:].float()
            # The factors bring a unit vector's small logits, and a loss averaged over names, to the others' scale.
            logits = self.of_picture[name](8.0 * embedding)[:, 1:]
            total = total + 3.0 * F.binary_cross_entropy_with_logits(logits, present)
        return total
