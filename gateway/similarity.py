"""Compute the cosine similarity as Roboflow's server does: raw, in float32, without scaling or softmax."""

import numpy as np
from numpy.typing import NDArray

from gateway.encoder import Embeddings


def cosine(query: Embeddings, candidates: Embeddings) -> NDArray[np.float32]:
    """Compute the cosine similarity of one embedding to N others.

    The result is divided by the norms, although towers return unit vectors: FP16 engines deviate from length 1 by 1e-3.

    Args:
        query: float32 [D].
        candidates: float32 [N, D].

    Returns:
        float32 [N].
    """
    norms = np.linalg.norm(candidates, axis=1) * np.linalg.norm(query)
    similarities: NDArray[np.float32] = (candidates @ query / norms).astype(np.float32)
    return similarities
