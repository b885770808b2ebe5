"""Whether two servers give the same embeddings: cosines and lengths."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from deploy.bench.against.interfaces import Embeddings, Interface, NotOffered
from deploy.bench.against.peer import Peer
from deploy.bench.harness.load_generator import texts as new_texts

TEXTS: Final = 16
_SAME_WEIGHTS: Final = 0.99
_Body = Callable[[Interface], tuple[str, Any]]


def compare(ours: Peer, theirs: Peer, images: Sequence[bytes]) -> dict[str, dict[str, Any]]:
    """Ask both servers for the same embeddings, one item a request.

    Args:
        ours: our server.
        theirs: the other one.
        images: JPEG files.

    Returns:
        For "image" and "text": `not_offered`, a reason, or the `dimensions` of both; with equal dimensions the smallest
        and median `cosine` of pairs, otherwise None; and the smallest and largest `length` of both servers' embeddings.

    Raises:
        PeerFailed: one of them did not respond, or ours refused.
    """
    texts = [text for text, _ in zip(new_texts(0), range(TEXTS), strict=False)]
    bodies: dict[str, list[_Body]] = {
        "image": [lambda interface, image=image: interface.images_body([image]) for image in images],  # type: ignore[misc]
        "text": [lambda interface, text=text: interface.texts_body([text]) for text in texts],  # type: ignore[misc]
    }
    found = {}
    for name, asked in bodies.items():
        try:
            rows = [_embed(server, asked) for server in (ours, theirs)]
        except (NotOffered, ValueError) as error:
            found[name] = {"not_offered": str(error)}
        else:
            found[name] = _agreement(*rows)
    return found


def _embed(server: Peer, asked: Sequence[_Body]) -> Embeddings:
    return np.concatenate([server.embed(body(server.interface)) for body in asked])


def _agreement(ours: Embeddings, theirs: Embeddings) -> dict[str, Any]:
    lengths = [np.linalg.norm(rows, axis=1) for rows in (ours, theirs)]
    cosine = None
    if ours.shape == theirs.shape:
        with np.errstate(invalid="ignore"):
            cosines = (ours * theirs).sum(axis=1) / lengths[0] / lengths[1]
        cosine = {"min": float(cosines.min()), "median": float(np.median(cosines))}
    return {
        "pairs": len(ours),
        "dimensions": [ours.shape[1], theirs.shape[1]],
        "cosine": cosine,
        "length": [[float(length.min()), float(length.max())] for length in lengths],
    }


def warning(agreement: dict[str, dict[str, Any]], name: str) -> str:
    """Say in a sentence that the two servers have different models; empty if they seem to have the same."""
    for what, found in agreement.items():
        if "not_offered" in found:
            continue
        ours, theirs = found["dimensions"]
        if ours != theirs:
            return f"{name} has another model: its {what} embeddings have {theirs} dimensions, ours {ours}."
        if not found["cosine"]["min"] >= _SAME_WEIGHTS:
            return (
                f"{name} has another model or other weights: a cosine of {found['cosine']['min']:.3f} for one {what}."
            )
    return ""
