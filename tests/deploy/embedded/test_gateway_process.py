"""The gateway as a child process, with a small HTTP server in its place."""

import http.server
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from deploy.embedded import gateway_process, ports, probe
from deploy.embedded.errors import ProcessDied
from deploy.embedded.signals import Signals

STAND_IN = """
import http.server, json, os
class Handler(http.server.BaseHTTPRequestHandler):
    asked = 0
    def do_GET(self):
        Handler.asked += 1
        body = json.dumps({"models": {"V": {}}, "triton": os.environ["PE_TRITON_URL"]}).encode()
        self.send_response(503 if self.path == "/readiness" and Handler.asked < 3 else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
http.server.HTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
"""


def start(monkeypatch: pytest.MonkeyPatch, code: str, host: str = "127.0.0.1") -> gateway_process.GatewayProcess:
    monkeypatch.setattr(gateway_process, "_COMMAND", (sys.executable, "-c", code))
    return gateway_process.GatewayProcess(host, ports.free(1)[0], 1, "unix:/t.sock:1")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_waits_until_it_is_ready_and_asks_what_it_serves(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    with Signals() as signals:
        running = start(monkeypatch, STAND_IN, host)
        try:
            running.wait_until_ready(signals)
            assert running.info() == {"models": {"V": {}}, "triton": "unix:/t.sock:1"}
            assert running.url.startswith("http://127.0.0.1:")
        finally:
            running.stop(signals)
        assert running.info() == {}


def test_a_gateway_that_ends_is_noticed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with Signals() as signals, pytest.raises(ProcessDied) as caught:
        start(monkeypatch, "raise SystemExit(2)").wait_until_ready(signals)
    assert caught.value.status == 2


def test_addresses_a_client_can_use() -> None:
    assert gateway_process.reachable_host("0.0.0.0") == "127.0.0.1"
    assert gateway_process.reachable_host("::") == "127.0.0.1"
    assert gateway_process.reachable_host("192.0.2.7") == "192.0.2.7"


@contextmanager
def answering(body: bytes) -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (b'HTTP/1.0 503 No\r\n\r\n{"a": 1}', (503, {"a": 1})),
        (b"HTTP/1.0 200 OK\r\n\r\n<html>", (200, None)),
        (b"what?\r\n", None),
        (b"", None),
    ],
)
def test_a_probe_takes_any_answer(answer: bytes, result: tuple[int, object] | None) -> None:
    with answering(answer) as port:
        assert probe.request("GET", "127.0.0.1", port, "/") == result


def test_a_probe_takes_silence() -> None:
    assert probe.request("GET", "127.0.0.1", ports.free(1)[0], "/") is None
