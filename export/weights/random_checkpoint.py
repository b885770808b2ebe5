"""A checkpoint with random weights, in open_clip's layout: meaningless embeddings at the real speed and size.

    python -m export.weights.random_checkpoint PE-Core-B16-224 random.safetensors

For sizing hardware before the real weights are there, and for tests.
"""

import argparse
import json
import math
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from export.variants import Variant, find_variant
from export.weights.checkpoint import TOWER_KEYS, build_tower

NOTICE = "Random weights: the embeddings mean nothing."
_LOGIT_SCALE = math.log(100.0)


def write(variant_name: str, path: Path, seed: int = 0) -> None:
    """Write FP32 weights drawn by torch's generator from `seed`, as safetensors, with one tower in memory at a time.

    The format: the header's length, the header in JSON, then the tensors' bytes
    (https://huggingface.co/docs/safetensors, "Format").
    """
    variant = find_variant(variant_name)
    header: dict[str, object] = {"__metadata__": {"notice": NOTICE}}
    end = 0
    with torch.device("meta"):
        for name, value in _tensors(variant):
            start, end = end, end + value.nbytes
            header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [start, end]}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)  # so that the tensors begin at a multiple of eight
    torch.manual_seed(seed)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for _, value in _tensors(variant):
            file.write(value.numpy().tobytes())


def _tensors(variant: Variant) -> Iterator[tuple[str, Tensor]]:
    """Every tensor by open_clip's name, one tower after the other, on torch's default device."""
    for tower, attribute in TOWER_KEYS.items():
        for name, value in build_tower(variant, tower).state_dict().items():
            yield f"{attribute}.{name}", value
    yield "logit_scale", torch.tensor(_LOGIT_SCALE)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m export.weights.random_checkpoint", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("variant", metavar="VARIANT")
    parser.add_argument("file", type=Path, metavar="FILE")
    options = parser.parse_args()
    write(options.variant, options.file)
    print(f"{options.file}  {options.file.stat().st_size / 1e6:.1f} MB", file=sys.stderr)  # noqa: T201 - a command
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
