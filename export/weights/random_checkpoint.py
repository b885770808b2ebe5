"""Write a checkpoint with random weights, in open_clip's layout.

    python -m export.weights.random_checkpoint PE-Core-B16-224 random.safetensors

The embeddings are meaningless, but speed and memory are those of the real weights. Use it to size hardware, and in
tests.
"""

import argparse
import json
import math
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from export.errors import UnknownVariant
from export.graph.towers import TextTower, VisionTower
from export.variants import Tower, Variant, find_variant
from export.weights.checkpoint import TOWER_KEYS, build_tower

NOTICE: Final = "Random weights: the embeddings mean nothing."
_LOGIT_SCALE: Final = math.log(100.0)


def write(variant_name: str, path: Path, seed: int = 0) -> None:
    """Write random FP32 weights as a safetensors file, with at most one tower in memory.

    The file holds the header's length, the header in JSON, and the bytes of the tensors
    (https://huggingface.co/docs/safetensors, "Format").

    Args:
        seed: the seed of torch's random generator.

    Raises:
        UnknownVariant: there is no variant of this name.
    """
    variant = find_variant(variant_name)
    header: dict[str, object] = {"__metadata__": {"notice": NOTICE}}
    end = 0
    with torch.device("meta"):
        for name, value in _tensors(variant):
            start, end = end, end + value.nbytes
            header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [start, end]}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)  # Tensors must begin at a multiple of 8 bytes.
    torch.manual_seed(seed)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for _, value in _tensors(variant):
            file.write(value.numpy().tobytes())


def random_tower(variant: Variant, tower: Tower) -> VisionTower | TextTower:
    """Build a tower with random FP32 weights, as `load_tower` reads it from a file of `write`, but without a file."""
    network = build_tower(variant, tower)
    return VisionTower(network) if tower == "vision" else TextTower(network)


def _tensors(variant: Variant) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor with its key in open_clip's layout, on torch's default device, one tower at a time."""
    for tower, attribute in TOWER_KEYS.items():
        for name, value in build_tower(variant, tower).state_dict().items():
            yield f"{attribute}.{name}", value
    yield "logit_scale", torch.tensor(_LOGIT_SCALE)


def main() -> int:
    """Run the command, and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m export.weights.random_checkpoint", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("variant", metavar="VARIANT")
    parser.add_argument("file", type=Path, metavar="FILE")
    options = parser.parse_args()
    try:
        write(options.variant, options.file)
    except (UnknownVariant, OSError) as error:
        print(f"random_checkpoint: {error}", file=sys.stderr)  # noqa: T201 - a command
        return 1
    print(f"{options.file}  {options.file.stat().st_size / 1e6:.1f} MB", file=sys.stderr)  # noqa: T201 - a command
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
