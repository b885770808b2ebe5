"""Choose the format of embeddings in a response: JSON numbers, base64 or an array file."""

import asyncio
import io
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal

import numpy as np
import pybase64
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway.encoder import Embeddings
from gateway.http.headers import header
from gateway.http.json_response import LongJsonResponse, LongList, json_response
from gateway.in_flight import current_request

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
    """Serialize embeddings [N, D] to an array file of little-endian float32, as `numpy.load` reads it.

    Raises:
        Overloaded: the byte budget has no room for the file.
    """
    current_request().hold(embeddings.nbytes)
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(embeddings, "<f4"), allow_pickle=False)
    return buffer.getvalue()


async def rows(
    embeddings: Embeddings, encoding_format: EncodingFormat | None, item: Callable[[int, Any], Any] | None = None
) -> Embeddings | list[Any] | LongList:
    """The N values that represent embeddings [N, D] in JSON: numbers, unless the format is `base64`.

    Args:
        item: makes an item of the list of an index and its row. Default: the row itself.

    Returns:
        Rows of numbers, or base64 strings of little-endian float32, as in OpenAI's API. A long list is
        serialized already, and other callbacks ran meanwhile.

    Raises:
        Overloaded: the byte budget has no room for a long list.
    """
    little_endian = np.ascontiguousarray(embeddings, "<f4")
    if item is None and encoding_format != "base64" and len(embeddings) <= _ROWS_AT_ONCE:
        return little_endian

    def items(start: int) -> list[Any]:
        found = little_endian[start : start + _ROWS_AT_ONCE]
        values: Iterable[Any] = map(pybase64.b64encode_as_string, found) if encoding_format == "base64" else found
        return [item(index, value) if item else value for index, value in enumerate(values, start)]

    if len(embeddings) <= _ROWS_AT_ONCE:
        return items(0)
    long_list = LongList()
    size = 0
    for start in range(0, len(embeddings), _ROWS_AT_ONCE):
        await asyncio.sleep(0)
        long_list.extend(items(start))
        # Short requests have long responses: 2,048 equal texts make 23 MB of numbers, which the client may never read.
        size += len(long_list.groups[-1])
        current_request().hold(size)
    return long_list


def counted(response: Response) -> Response:
    """The same response, with its body in the byte budget: a short request can have a long one, and not read it.

    Raises:
        Overloaded: the byte budget has no room for the body.
    """
    current_request().hold(len(response.body))
    return response


def embeddings_response(name: str, answer: dict[str, Any], headers: Mapping[str, str]) -> Response:
    """A response whose field `name` is what `rows` returned."""
    items = answer[name]
    return (
        LongJsonResponse(answer, items, headers)
        if isinstance(items, LongList)
        else json_response(answer, headers=headers)
    )


def _accepted(request: Request) -> list[str]:
    values = header(request.scope, b"accept")[:_MAX_ACCEPT].split(",")
    return [media_type for value in values if (media_type := value.partition(";")[0].strip().lower())]
