"""Open a checkpoint file whose tensors are dense arrays of floating-point numbers; refuse others by name.

The check is outside `export.weights.checkpoint`, because a change of that module's code makes every exported model out
of date.
"""

from dataclasses import replace
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from export.errors import CheckpointError
from export.weights.checkpoint import Checkpoint, open_checkpoint

_DTYPES: Final = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
# https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md: what a clone without Git LFS has in place of a large file.
_LFS_POINTER: Final = b"version https://git-lfs.github.com/spec/"


def open_dense(path: Path) -> Checkpoint:
    """Open a file as `open_checkpoint` does. Reading a tensor that is not dense floating point raises CheckpointError.

    Raises:
        CheckpointError: as from `open_checkpoint`, or the file is a pointer of Git LFS.
    """
    if path.is_file() and _is_lfs_pointer(path):
        raise CheckpointError(
            f"{path} is a pointer of Git LFS, not the weights: run `git lfs pull` there, or download the file itself"
        )
    checkpoint = open_checkpoint(path)

    def read(key: str) -> Tensor:
        try:
            tensor = checkpoint.read(key)
        except RuntimeError as error:  # Torch's, of a sparse tensor.
            raise CheckpointError(f"{path.name}: {key} cannot be read as a dense tensor") from error
        if tensor.is_meta or tensor.dtype not in _DTYPES:
            kind = "no values" if tensor.is_meta else str(tensor.dtype).removeprefix("torch.")
            raise CheckpointError(
                f"{path.name}: {key} has {kind}; weights must be float32, float16, bfloat16 or float64"
            )
        return tensor

    return replace(checkpoint, read=read)


def _is_lfs_pointer(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_LFS_POINTER)) == _LFS_POINTER
