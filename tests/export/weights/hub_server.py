"""A small server with the part of the hub's download protocol that one file needs.

It answers HEAD and GET of `/<repository>/resolve/<revision>/<file>`, with `X-Repo-Commit`, the digest as ETag, and byte
ranges.
"""

import hashlib
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "c0ffee" + "0" * 34


@dataclass
class Hub:
    """The published file, and a record of the requests."""

    repository: str
    file: str
    content: bytes
    url: str = ""
    break_after: int | None = None
    """Close the connection after this many bytes of the next body."""
    always_break: bool = False
    """Close the connection in every body."""
    stall_after: int | None = None
    """Send this many bytes of the next body, then nothing until the client leaves or the server stops."""
    stalled: threading.Event = field(default_factory=threading.Event)
    """Set when a body has stalled."""
    status: int | None = None
    """Answer every request with this status."""
    commit: str = COMMIT
    """The commit of `main`."""
    sent: bytes | None = None
    """The bytes to send, if they differ from the published content."""
    requests: list[str] = field(default_factory=list)


@contextmanager
def serve(hub: Hub, certificate: Path | None = None) -> Iterator[Hub]:
    """Serve on a free port of this machine, with TLS if there is a certificate."""
    digest = hashlib.sha256(hub.content).hexdigest()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, with_body: bool) -> None:
            wanted = self.headers.get("Range", "")
            hub.requests.append(f"{self.command} {self.path} {wanted}".strip())
            if hub.status is not None:
                self.send_response(hub.status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            known = [f"/{hub.repository}/resolve/{revision}/{hub.file}" for revision in ("main", COMMIT, hub.commit)]
            if self.path not in known:
                self.send_response(404)
                code = "EntryNotFound" if self.path.startswith(f"/{hub.repository}/resolve/") else "RepoNotFound"
                self.send_header("X-Error-Code", code)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
            body = (hub.sent or hub.content)[start:]
            commit = COMMIT if f"/{COMMIT}/" in self.path else hub.commit
            self.send_response(206 if wanted else 200)
            self.send_header("X-Repo-Commit", commit)
            self.send_header("ETag", f'"{digest}"')
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(body)))
            if wanted:
                self.send_header("Content-Range", f"bytes {start}-{len(hub.content) - 1}/{len(hub.content)}")
            self.end_headers()
            if not with_body:
                return
            if hub.break_after is not None:
                body, hub.break_after = body[: hub.break_after], hub.break_after if hub.always_break else None
                self.close_connection = True
            if hub.stall_after is None:
                self.wfile.write(body)
                return
            self.wfile.write(body[: hub.stall_after])
            hub.stall_after, self.close_connection = None, True
            hub.stalled.set()
            self.connection.settimeout(120)
            self.connection.recv(1)  # Returns when the client closes the connection.

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    hub.url = f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
