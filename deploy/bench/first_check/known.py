"""Pictures whose content is known, replayed through the gateway: do the embeddings mean what they should?"""

import json
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from deploy.bench.harness import client, photographs

# One caption for each picture of `photographs.NAMES`, in its order.
CAPTIONS: Final = (
    "a portrait of a smiling astronaut in an orange space suit",
    "a cup of coffee on a wooden table",
    "the face of a ginger cat",
    "a rocket on its launch pad at night",
    "a photograph of the retina of a human eye",
)
# The same picture in different bodies is decoded from the same file.
_SAME: Final = 0.9999

Matrix = NDArray[np.float32]


class ReplayFailed(Exception):
    """The gateway did not answer a known request as documented. The text is its answer."""


def replay(url: str, variant: str) -> dict[str, Any]:
    """Embed the pictures, as raw bodies, in base64 and as a list, and the captions, one by one and as a list.

    Args:
        url: the gateway, http://host:port.
        variant: the variant to ask for.

    Returns:
        `similarities`: cosines of the pictures [P] to the captions [C]; `best`: the index of the best caption of each
        picture; `matches`: how many of them are the picture's own, or None if the pictures are drawn; `same_image` and
        `same_text`: the smallest cosine between ways to send the same; `first`: the first numbers of each embedding.

    Raises:
        ReplayFailed: an answer is an error, or has another shape.
    """
    pictures, source = photographs.photographs()
    files = [photographs.jpeg(picture, photographs.SMALL) for picture in pictures]
    version = {"perception_encoder_version_id": variant}
    as_json = [client.image_json(file) for file in files]
    listed = _embed(url, client.IMAGE, {**version, "image": as_json})
    single = np.concatenate([_embed(url, client.IMAGE, {**version, "image": image}) for image in as_json])
    raw = np.concatenate([_embed_raw(url, variant, file) for file in files])
    captions = _embed(url, client.TEXT, {**version, "text": list(CAPTIONS)})
    caption_alone = np.concatenate([_embed(url, client.TEXT, {**version, "text": text}) for text in CAPTIONS])
    similarities = listed @ captions.T
    best = similarities.argmax(axis=1).tolist()
    known = source.startswith("photographs")
    return {
        "pictures": source,
        "similarities": _rounded(similarities, 4),
        "best": best,
        "matches": sum(index == place for place, index in enumerate(best)) if known else None,
        "same_image": float(min((listed * single).sum(axis=1).min(), (listed * raw).sum(axis=1).min())),
        "same_text": float((captions * caption_alone).sum(axis=1).min()),
        "first": {"images": _rounded(listed[:, :4], 5), "texts": _rounded(captions[:, :4], 5)},
    }


def problems(found: dict[str, Any], *, demo: bool) -> list[str]:
    """Say what is wrong with the result of `replay`. The demo's matches do not count: it knows no real pictures."""
    said = [
        f"the same {kind} sent in different ways has a cosine of {found[name]:.6f}"
        for kind, name in (("picture", "same_image"), ("text", "same_text"))
        if not found[name] >= _SAME
    ]
    if not demo and found["matches"] is not None and found["matches"] < len(CAPTIONS):
        wrong = [CAPTIONS[place] for place, index in enumerate(found["best"]) if index != place]
        said.append(f"{len(wrong)} of {len(CAPTIONS)} pictures match another caption better: {'; '.join(wrong)}")
    return said


def _rounded(matrix: Matrix, digits: int) -> list[list[float]]:
    return [[round(float(value), digits) for value in row] for row in matrix]


def _embed(url: str, path: str, body: Any) -> Matrix:
    return _matrix(client.post(url, path, body, client.key_header(), timeout=300))


def _embed_raw(url: str, variant: str, file: bytes) -> Matrix:
    path = f"{client.IMAGE}?perception_encoder_version_id={variant}"
    headers = {"Content-Type": "image/jpeg", **client.key_header()}
    return _matrix(client.request(url, "POST", path, file, headers, timeout=300))


def _matrix(answer: client.Response) -> Matrix:
    if answer.status == 401:
        raise ReplayFailed(f"the server wants an API key: set {client.KEY_VARIABLE} in the environment")
    if answer.status != 200:
        said = answer.body.decode(errors="replace")[:300]
        raise ReplayFailed(f"status {answer.status}: {said}" if answer.status else "the connection broke")
    try:
        matrix = np.asarray(answer.json()["embeddings"], np.float32)
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise ReplayFailed(f"an answer without embeddings: {error}") from None
    if matrix.ndim != 2:
        raise ReplayFailed(f"embeddings of shape {list(matrix.shape)}")
    return matrix
