"""JSON in and out: numpy arrays without a Python float each, and strings that no strict encoder takes."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from starlette.responses import Response

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def dumps(value: Any) -> bytes:
    """UTF-8 JSON. float32 arrays come out in the fewest digits that give the same float32 again."""
    try:
        return orjson.dumps(value, option=_OPTIONS)
    except TypeError:
        # Lone surrogates, which a client may well have as a key of its prompts, can only be written as escapes.
        return json.dumps(value, default=_plain).encode()


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """numpy arrays among the content become JSON arrays, with no Python object for each number."""
    return Response(dumps(value), status, headers, media_type="application/json")


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no JSON form")
