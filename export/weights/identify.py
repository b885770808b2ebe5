"""Find out of which variant a checkpoint file is."""

from pathlib import Path

from export.errors import CheckpointError
from export.variants import VARIANTS, Variant

# Its name stays private, because a change of that module's code makes every exported model out of date.
from export.weights.checkpoint import _misfit
from export.weights.dense import open_dense


def identify(path: Path) -> Variant:
    """Return the variant that has exactly the keys and shapes of the file. They differ between all variants.

    Raises:
        CheckpointError: the file is no checkpoint, or that of no known variant.
    """
    checkpoint = open_dense(path)
    misfits = {}
    for variant in VARIANTS.values():
        misfits[variant.name] = _misfit(variant, checkpoint)
        if not misfits[variant.name]:
            return variant
    reasons = "; ".join(f"{name}: {misfit}" for name, misfit in misfits.items())
    raise CheckpointError(f"{path.name} is not a checkpoint of a known variant ({reasons})")
