"""Serialize responses to JSON, with numpy arrays and with strings that strict encoders refuse."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

_OPTIONS: Final = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
# Stands for a `LongList` in a serialized value. JSON has no such bytes.
_PLACEHOLDER: Final = b"\0"


class LongList:
    """A list of a response whose items are serialized already.

    A list of 2,048 embeddings has 23 MB. One bytes object of that size takes the event loop 30 ms to build and to send.

    Attributes:
        groups: some items each, separated by commas. Each group is sent by itself.
    """

    def __init__(self) -> None:
        self.groups: list[bytes] = []

    def extend(self, items: Sequence[Any]) -> None:
        """Serialize more items, as one group. There is at least one."""
        self.groups.append((b"," if self.groups else b"[") + dumps(items)[1:-1])


def dumps(value: Any) -> bytes:
    """Serialize a value to UTF-8 JSON. Numbers of float32 arrays have the fewest digits that restore the float32."""
    try:
        return orjson.dumps(value, _placeholder, _OPTIONS)
    except TypeError:
        # orjson refuses lone surrogates, which a client may use in the names of its prompts. Escapes can express them.
        return json.dumps(value, default=_plain).encode()


def json_string(text: str) -> str | orjson.Fragment:
    """A string as a value for `dumps`, so that one with lone surrogates does not make `dumps` slow."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return orjson.Fragment(json.dumps(text))
    return text


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response. Numpy arrays become JSON arrays, without a Python object for each number."""
    return Response(dumps(value), status, headers, media_type="application/json")


class LongJsonResponse(Response):
    """A JSON response whose body is sent in parts.

    Args:
        value: an object that has `items`, not within a list.
        items: the long list.
    """

    def __init__(self, value: Any, items: LongList, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(None, 200, headers, media_type="application/json")
        before, _, after = dumps(value).partition(_PLACEHOLDER)
        self._parts = [before, *items.groups, b"]" + after]
        self.headers["content-length"] = str(sum(map(len, self._parts)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for part in self._parts:
            await send({"type": "http.response.body", "body": part, "more_body": part is not self._parts[-1]})


def _placeholder(value: Any) -> orjson.Fragment:
    if isinstance(value, LongList):
        return orjson.Fragment(_PLACEHOLDER)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no JSON form")
