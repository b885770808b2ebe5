"""A checkpoint with random weights, in open_clip's layout: meaningless embeddings at the real speed and size.

    python -m export.random_checkpoint PE-Core-B16-224 random.safetensors

For sizing hardware before the real weights are there, and for tests.
"""

import argparse
import math
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from export.checkpoint import build_tower
from export.variants import find_variant


def write(variant_name: str, path: Path, seed: int = 0) -> None:
    """Write FP32 weights drawn by torch's generator from `seed`."""
    variant = find_variant(variant_name)
    torch.manual_seed(seed)
    tensors = {
        f"{attribute}.{name}": value.clone()
        for attribute, tower in (("visual", "vision"), ("text", "text"))
        for name, value in build_tower(variant, "vision" if tower == "vision" else "text").state_dict().items()
    }
    tensors["logit_scale"] = torch.tensor(math.log(100.0))
    save_file(tensors, path, {"notice": "Random weights: the embeddings mean nothing."})


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m export.random_checkpoint", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("variant", metavar="VARIANT")
    parser.add_argument("file", type=Path, metavar="FILE")
    options = parser.parse_args()
    write(options.variant, options.file)
    print(f"{options.file}  {options.file.stat().st_size / 1e6:.1f} MB", file=sys.stderr)  # noqa: T201 - a command
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
