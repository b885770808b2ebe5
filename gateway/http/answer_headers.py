"""The headers of answers with embeddings or similarities."""

from collections.abc import Sequence
from typing import Final

from gateway.encoder import EncoderSpec

# A proxy's buffer for all headers may be 4 kB, and a list may have thousands of texts.
_MAX_INDICES: Final = 256


def answer_headers(spec: EncoderSpec, truncated: Sequence[int | str]) -> dict[str, str]:
    """The headers of an answer.

    `x-model-id` is the incumbent's. `x-embedding-space` changes with the weights, and not with engine or precision.
    `x-truncated` is there if a text was longer than the model's context.

    Args:
        truncated: indices of such texts, or other words for them. Where there are more than 256, `...` ends the header.
    """
    headers = {"x-model-id": f"perception_encoder/{spec.variant}", "x-embedding-space": spec.space_name}
    if truncated:
        more = ["..."] if len(truncated) > _MAX_INDICES else []
        headers["x-truncated"] = ",".join(map(str, [*truncated[:_MAX_INDICES], *more]))
    return headers
