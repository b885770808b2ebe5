"""Train PE-Demo-T8-64 from random weights: `python -m export.demo.train [--out FILE]`.

The same seed draws the same pictures and captions on every machine. The weights differ between machines, because the
order of floating-point sums differs.
"""

import argparse
import logging
import math
import platform
import sys
import time
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np
import open_clip
import safetensors.torch
import timm
import torch
import torch.nn.functional as F
from torch import nn

from export.demo.architecture import CHECKPOINT, VARIANT, create_model
from export.demo.captions import truth
from export.demo.dataset import CAPTIONS, CONTEXT_LENGTH, Dataset, make_dataset
from export.demo.losses import Attributes, contrastive_loss

log = logging.getLogger("export.demo.train")

MAX_LOGIT_SCALE: Final = math.log(100)  # CLIP's own limit
REPORT: Final = 100  # steps between two lines of progress
SAVE: Final = 500  # steps between two checkpoints, so that an interrupted run leaves one


@dataclass(frozen=True)
class Recipe:
    """All settings that decide the result of training."""

    seed: int = 20
    pictures: int = 40_000
    steps: int = 4000
    batch: int = 64  # pictures per step
    captions: int = 2  # captions per picture and step; one of them is often false, see dataset.CAPTIONS
    muon: float = 0.02  # learning rate of the matrices within the blocks
    adamw: float = 2e-3  # learning rate of all other weights
    weight_decay: float = 0.02  # weight decay of the matrices within the blocks
    warmup: int = 100  # steps until the full learning rate


def schedule(step: int, recipe: Recipe) -> float:
    """Return the fraction of the learning rate at a step: a linear warmup, then half a cosine to zero."""
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    return 0.5 * (1 + math.cos(math.pi * (step - recipe.warmup) / (recipe.steps - recipe.warmup)))


def normalised(pictures: np.ndarray) -> torch.Tensor:
    """Normalise uint8 [N, H, W, 3] to float32 [N, 3, H, W] in [-1, 1], by PE-Core's mean and std of 0.5."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def optimizers(model: nn.Module, attributes: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Use Muon for the matrices within the blocks, and AdamW for all other weights.

    With AdamW alone, the model learnt no shape in 400 steps. With Muon it began to learn shapes after 300.
    """
    matrices = {name for name, p in model.named_parameters() if p.ndim == 2 and "blocks." in name}
    rest = chain((p for name, p in model.named_parameters() if name not in matrices), attributes.parameters())
    return [
        torch.optim.Muon(
            [p for name, p in model.named_parameters() if name in matrices],
            lr=recipe.muon,
            weight_decay=recipe.weight_decay,
        ),
        torch.optim.AdamW(rest, lr=recipe.adamw, weight_decay=0.0, betas=(0.9, 0.98), fused=True),
    ]


def train(data: Dataset, recipe: Recipe, out: Path) -> None:
    """Train the model, and write the checkpoint to `out` every SAVE steps and at the end."""
    torch.manual_seed(recipe.seed)
    model = create_model().train()
    attributes = Attributes(model.visual.trunk.embed_dim, model.text.output_dim)
    optimize = optimizers(model, attributes, recipe)
    schedulers = [torch.optim.lr_scheduler.LambdaLR(o, lambda step: schedule(step, recipe)) for o in optimize]
    rng = np.random.default_rng([recipe.seed, 1])
    started, losses = time.monotonic(), []
    for step, index in zip(range(1, recipe.steps + 1), data.batches(rng, recipe.batch), strict=False):
        # The last caption, which is often false, is always chosen.
        chosen = rng.integers(0, CAPTIONS - 1, (len(index), recipe.captions))
        chosen[:, -1] = CAPTIONS - 1
        tokens = data.tokens[index[:, None], chosen].reshape(-1, CONTEXT_LENGTH).astype(np.int64)
        claims = data.claims[index[:, None], chosen].reshape(len(tokens), -1)

        features = model.visual.trunk.forward_features(normalised(data.pictures[index]))  # class token, then patches
        images = F.normalize(model.visual.trunk.forward_head(features), dim=-1)
        texts = model.encode_text(torch.from_numpy(tokens), normalize=True)
        known = torch.from_numpy(truth(data.scenes[index], claims))
        contrast = contrastive_loss(model.logit_scale.exp() * images @ texts.T, known)
        names = attributes.loss(features[:, 1:], images, data.scenes[index], data.patches[index])

        model.zero_grad()
        attributes.zero_grad()
        torch.autograd.backward(contrast + names)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, scheduler in zip(optimize, schedulers, strict=True):
            optimizer.step()
            scheduler.step()
        model.logit_scale.data.clamp_(max=MAX_LOGIT_SCALE)

        losses.append((contrast.item(), names.item()))
        if step % REPORT == 0:
            means = np.mean(losses[-REPORT:], axis=0)
            seconds = time.monotonic() - started
            log.info("step %d/%d: loss %.3f, attributes %.3f, %.0f s", step, recipe.steps, *means, seconds)
        if step % SAVE == 0 or step == recipe.steps:
            save(model, out, recipe)


def save(model: nn.Module, path: Path, recipe: Recipe) -> None:
    """Write the weights in FP16 under open_clip's own keys, for `load_state_dict(strict=True)`.

    The logit scale is a single number and stays in FP32. The metadata holds the recipe and the library versions.
    """
    weights = {
        name: (value if name == "logit_scale" else value.half()).contiguous()
        for name, value in model.state_dict().items()
    }
    versions = {"torch": torch.__version__, "open_clip": open_clip.__version__, "timm": timm.__version__}
    about = {
        "variant": VARIANT,
        "python": platform.python_version(),
        "numpy": np.__version__,
        **versions,
        **asdict(recipe),
    }
    path.write_bytes(safetensors.torch.save(weights, metadata={key: str(value) for key, value in about.items()}))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m export.demo.train", description=f"Train {VARIANT}.")
    parser.add_argument("--out", type=Path, default=CHECKPOINT, help="where the checkpoint goes (%(default)s)")
    parser.add_argument("--steps", type=int, default=Recipe.steps, help="fewer for a trial (%(default)s)")
    parser.add_argument("--pictures", type=int, default=Recipe.pictures, help="fewer for a trial (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="as many as there are idle cores (%(default)s)")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    log.setLevel(logging.INFO)
    torch.set_num_threads(args.threads)
    recipe = Recipe(steps=args.steps, pictures=args.pictures)
    started = time.monotonic()
    data = make_dataset(recipe.seed, recipe.pictures, args.threads)
    log.info("drew %d pictures in %.0f s", recipe.pictures, time.monotonic() - started)
    train(data, recipe, args.out)
    log.info("%s after %.1f minutes in all", args.out, (time.monotonic() - started) / 60)


if __name__ == "__main__":
    main()
