"""Choose the format of embeddings in a response: JSON numbers, base64 or an array file."""

import asyncio
import io
from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
import pybase64
from starlette.exceptions import HTTPException
from starlette.requests import Request

from gateway.encoder import Embeddings
from gateway.http.headers import header
from gateway.http.json_response import serialized

NPY: Final = "application/x-npy"

# As numbers, these take about 3 ms.
_ROWS_AT_ONCE: Final = 64
# Characters of `Accept` that are read. Browsers send some hundred.
_MAX_ACCEPT: Final = 4 * 2**10

EncodingFormat = Literal["float", "base64"]


def wants_npy(request: Request) -> bool:
    """Whether `Accept` names an array file, and not JSON before it."""
    for media_type in _accepted(request):
        if media_type in (NPY, "application/json"):
            return media_type == NPY
    return False


def require_json(request: Request) -> None:
    """Refuse clients that accept only array files, on routes that answer in JSON only.

    Raises:
        HTTPException: 406.
    """
    if _accepted(request) == [NPY]:
        raise HTTPException(406, f"{NPY} is for embeddings; this route answers in application/json.")


def npy(embeddings: Embeddings) -> bytes:
    """Serialize embeddings [N, D] to an array file of little-endian float32, as `numpy.load` reads it."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(embeddings, "<f4"), allow_pickle=False)
    return buffer.getvalue()


async def rows(embeddings: Embeddings, encoding_format: EncodingFormat | None) -> Sequence[Any] | Embeddings:
    """The N values that represent embeddings [N, D] in JSON: numbers, unless the format is `base64`.

    Other callbacks run while the rows of a long list are serialized.

    Returns:
        Rows of numbers, or base64 strings of little-endian float32, as in OpenAI's API.
    """
    if len(embeddings) > _ROWS_AT_ONCE:
        await asyncio.sleep(0)
    little_endian = np.ascontiguousarray(embeddings, "<f4")
    if len(embeddings) <= _ROWS_AT_ONCE and encoding_format != "base64":
        return little_endian
    serialize = pybase64.b64encode_as_string if encoding_format == "base64" else serialized
    values: list[Any] = []
    for start in range(0, len(embeddings), _ROWS_AT_ONCE):
        values += map(serialize, little_endian[start : start + _ROWS_AT_ONCE])
        if len(embeddings) > _ROWS_AT_ONCE:
            await asyncio.sleep(0)
    return values


def _accepted(request: Request) -> list[str]:
    values = header(request.scope, b"accept")[:_MAX_ACCEPT].split(",")
    return [media_type for value in values if (media_type := value.partition(";")[0].strip().lower())]
