"""A small embedding server that knows as much of an interface as a test wants."""

import base64
import hashlib
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from PIL import Image

Answer = tuple[int, Any]
Routes = dict[str, Callable[[Any], Answer]]


def embed(value: str, dimension: int = 4) -> list[float]:
    """Embed a text by its hash, and a `data:` URI by its mean colour."""
    if value.startswith("data:image/"):
        image = Image.open(io.BytesIO(base64.b64decode(value.partition(",")[2]))).convert("RGB")
        row = np.asarray(image, np.float64).mean(axis=(0, 1))[np.arange(dimension) % 3] + 1
    else:
        row = np.frombuffer(hashlib.sha256(value.encode()).digest()[:dimension], np.uint8) - 127.5
    return [float(x) for x in row / np.linalg.norm(row)]


def as_text(value: str) -> list[float]:
    """Embed everything as a text."""
    return embed("text: " + value)


class Served:
    """A running server: its address, and every request that it got."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[tuple[str, dict[str, str], Any]] = []


@contextmanager
def serving(routes: Routes, key: str = "", length: bool = True) -> Iterator[Served]:
    """Serve routes on a free port of loopback, each a function from the body to status and body."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            served.requests.append((self.path, dict(self.headers), body))
            if key and self.headers.get("Authorization") != f"Bearer {key}":
                self._send(401, {"detail": "who are you?"})
            elif self.path in routes:
                self._send(*routes[self.path](body))
            else:
                self._send(404, {"detail": "Not Found"})

        def do_GET(self) -> None:
            self._send(*routes[self.path](None) if self.path in routes else (404, {}))

        def _send(self, status: int, value: Any) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            if length:
                self.send_header("Content-Length", str(len(data)))
            else:
                self.close_connection = True
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    served = Served(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def openai_route(items: Callable[[Any], list[str]], embed: Callable[[str], list[float]] = embed) -> Routes:
    """Build OpenAI's route for a server that reads its inputs by `items`, which raises ValueError for others."""

    def answer(body: Any) -> Answer:
        try:
            rows = [embed(value) for value in items(body)]
        except (ValueError, KeyError, TypeError) as error:
            return 400, {"error": {"message": f"unknown input: {error}"}}
        return 200, {"data": [{"index": i, "embedding": row} for i, row in enumerate(rows)][::-1]}

    return {"/v1/embeddings": answer}


def strings(body: Any) -> list[str]:
    """Read texts and URIs, in a list or alone."""
    values = body["input"] if isinstance(body["input"], list) else [body["input"]]
    if not all(isinstance(value, str) for value in values):
        raise ValueError("not a string")
    return values


@pytest.fixture
def roboflow() -> Routes:
    """Roboflow's interface without lists of texts, of a model that has 4 dimensions."""

    def image(body: Any) -> Answer:
        images = body["image"] if isinstance(body["image"], list) else [body["image"]]
        return 200, {"embeddings": [embed("data:image/jpeg;base64," + one["value"]) for one in images]}

    def text(body: Any) -> Answer:
        if isinstance(body["text"], list):
            return 500, {"message": "Internal error."}
        return 200, {"embeddings": [embed(body["text"])]}

    return {
        "/perception_encoder/embed_image": image,
        "/perception_encoder/embed_text": text,
        "/perception_encoder/compare": lambda body: (200, {"similarity": [0.1] * len(body["prompt"])}),
    }
