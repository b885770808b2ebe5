"""Serialize responses to JSON, with numpy arrays and with strings that strict encoders refuse."""

import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import orjson
from starlette.responses import Response

_OPTIONS: Final = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def dumps(value: Any) -> bytes:
    """Serialize a value to UTF-8 JSON. Numbers of float32 arrays have the fewest digits that restore the float32."""
    try:
        return orjson.dumps(value, option=_OPTIONS)
    except TypeError:
        # orjson refuses lone surrogates, which a client may use in the names of its prompts. Escapes can express them.
        return json.dumps(value, default=_plain).encode()


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response. Numpy arrays become JSON arrays, without a Python object for each number."""
    return Response(dumps(value), status, headers, media_type="application/json")


def serialized(array: np.ndarray) -> orjson.Fragment:  # type: ignore[type-arg]
    """An array in JSON, as a part of a value that is serialized later."""
    return orjson.Fragment(dumps(array))


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no JSON form")
