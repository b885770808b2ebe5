"""A small HTTP server in the gateway's place, for what a real one does too rarely: each answer is scripted."""

import io
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import numpy as np

SPACE = "PE-Test@0123456789ab"
DIMENSION = 4


@dataclass
class Answer:
    """One answer. Status 0 closes the connection without one."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def embeddings(count: int, space: str = SPACE) -> Answer:
    """An answer with embeddings, all alike."""
    buffer = io.BytesIO()
    np.save(buffer, np.full((count, DIMENSION), 0.5, np.float32))
    return Answer(200, buffer.getvalue(), {"X-Embedding-Space": space})


def error(status: int, message: str, index: int | None = None, **headers: str) -> Answer:
    """An error as the gateway sends it."""
    body: dict[str, Any] = {"message": message} | ({} if index is None else {"index": index})
    return Answer(status, json.dumps(body).encode(), {name.replace("_", "-"): value for name, value in headers.items()})


def items(path: str, body: bytes) -> list[bytes]:
    """The images or texts of a request."""
    if path.startswith("/perception_encoder/embed_text"):
        return [text.encode() for text in json.loads(body)["text"]]
    if body.startswith(b"--"):
        boundary = body.partition(b"\r\n")[0]
        return [part.partition(b"\r\n\r\n")[2][:-2] for part in body.split(boundary)[1:-1]]
    return [body]


class ScriptedGateway:
    """A server on a free port of loopback.

    Attributes:
        answer: answer(items) -> Answer. It runs in a thread for each connection.
        info: what `/info` reports.
        requests: the items of each request to embed, in the order of arrival.
        headers: of the last request.
    """

    def __init__(self) -> None:
        self.answer: Callable[[list[bytes]], Answer] = lambda found: embeddings(len(found))
        self.info: Any = {
            "models": {"PE-Test": {"embedding_space": SPACE, "embed_dim": DIMENSION, "image_size": [8, 8]}},
            "limits": {"max_items": 64, "max_texts": 2048, "max_body_bytes": 2**20},
        }
        self.requests: list[list[bytes]] = []
        self.headers: dict[str, str] = {}
        self.in_flight = self.most_in_flight = 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def respond(self, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        """Count a request, and choose its answer."""
        found = items(path, body)
        with self._lock:
            self.headers = headers
            self.requests.append(found)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return self.answer(found)
        finally:
            with self._lock:
                self.in_flight -= 1


def _handler(gateway: ScriptedGateway) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if re.fullmatch(r"/info", self.path):
                self._send(Answer(200, json.dumps(gateway.info).encode()))
            else:
                self._send(Answer(404))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._send(gateway.respond(self.path, body, dict(self.headers)))

        def _send(self, answer: Answer) -> None:
            if answer.status == 0:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            return

    return Handler
