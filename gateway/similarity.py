"""Cosine similarity, as Roboflow's server computes it: raw, in float32, neither scaled nor put through a softmax."""

import numpy as np

from gateway.encoder import Embeddings


def cosine(query: Embeddings, candidates: Embeddings) -> Embeddings:
    """Similarities [N] of one embedding [D] to each of N [N, D].

    Divides by both norms although towers answer with unit length: FP16 engines leave them at 1 +- 1e-3.
    """
    norms = np.linalg.norm(candidates, axis=1) * np.linalg.norm(query)
    similarities: Embeddings = (candidates @ query / norms).astype(np.float32)
    return similarities
