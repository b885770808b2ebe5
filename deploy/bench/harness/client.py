"""HTTP requests to the gateway, each on a connection of its own, and the small images that they carry."""

import base64
import http.client
import io
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

IMAGE: Final = "/perception_encoder/embed_image"
TEXT: Final = "/perception_encoder/embed_text"
COMPARE: Final = "/perception_encoder/compare"
JSON: Final = "application/json"
KEY_VARIABLE: Final = "PE_API_KEY"  # as for pe-embed
_T = TypeVar("_T")


@dataclass(frozen=True)
class Response:
    """The response to one request."""

    status: int  # 0: the connection broke, or the timeout passed
    seconds: float
    headers: Mapping[str, str] = field(default_factory=dict)  # names in lower case
    body: bytes = b""

    def json(self) -> Any:
        """Parse the body."""
        return json.loads(self.body)


def request(
    url: str, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None,
    timeout: float = 60,
) -> Response:  # fmt: skip
    """Send one request. `timeout` is in seconds. A broken connection gives status 0 and no exception."""
    host = urlsplit(url)
    begun = time.perf_counter()
    connection = http.client.HTTPConnection(host.hostname or "", host.port, timeout=timeout)
    try:
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        data = answer.read()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Response(answer.status, time.perf_counter() - begun, found, data)
    except (OSError, http.client.HTTPException):
        return Response(0, time.perf_counter() - begun)
    finally:
        connection.close()


def key_header() -> dict[str, str]:
    """The header with the API key of `PE_API_KEY`, or no header."""
    key = os.environ.get(KEY_VARIABLE, "")
    return {"Authorization": f"Bearer {key}"} if key else {}


def post(url: str, path: str, value: Any, headers: Mapping[str, str] | None = None, timeout: float = 60) -> Response:
    """Post a value as JSON."""
    return request(url, "POST", path, json.dumps(value).encode(), {"Content-Type": JSON, **(headers or {})}, timeout)


def get(url: str, path: str, timeout: float = 10) -> Response:
    """Get a path."""
    return request(url, "GET", path, timeout=timeout)


def concurrently(count: int, task: Callable[[int], _T]) -> list[_T]:
    """Run `task(0)` to `task(count - 1)` at the same time."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(task, range(count)))


def grey_png(brightness: int, size: tuple[int, int] = (32, 32)) -> bytes:
    """Encode a PNG file of one grey, 0 to 255."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (brightness, brightness, brightness)).save(buffer, "PNG")
    return buffer.getvalue()


def image_json(data: bytes) -> dict[str, str]:
    """Wrap an image file as the JSON object that the routes take."""
    return {"type": "base64", "value": base64.b64encode(data).decode()}


def grey(brightness: int, size: tuple[int, int] = (32, 32)) -> dict[str, str]:
    """Build the JSON object of a `grey_png`."""
    return image_json(grey_png(brightness, size))


def embeds_grey(response: Response, brightness: int) -> bool:
    """Whether the response holds the stub model's embedding of a `grey_png` of this brightness."""
    if response.status != 200:
        return False
    angle = brightness / 255 * np.pi / 2
    embedding: Sequence[float] = response.json()["embeddings"][0]
    return bool(np.allclose(embedding[:2], [np.cos(angle), np.sin(angle)], atol=1e-3))
