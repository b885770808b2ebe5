"""The real pip-audit, asking a vulnerability service of our own on this machine."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deploy import audit
from tests.running import free_port

PINS = "# as tested\nclick==8.5.1\nnumpy==2.2.6  # with a reason\n"
# As https://google.github.io/osv.dev/post-v1-query/ answers.
KNOWN = {
    "id": "PYSEC-2026-1",
    "summary": "bad",
    "affected": [
        {
            "package": {"name": "click", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "8.6.0"}]}],
        }
    ],
}


class Osv(BaseHTTPRequestHandler):
    known: dict[str, dict[str, Any]]

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))["package"]["name"]
        found = self.known.get(asked)
        body = json.dumps({"vulns": [found]} if found else {}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """Arguments that lead to it. It knows of nothing."""
    pins = tmp_path / "pins.txt"
    pins.write_text(PINS)
    monkeypatch.setattr(audit, "PINS", (pins,))
    Osv.known = {}
    with ThreadingHTTPServer(("127.0.0.1", 0), Osv) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield asking(server.server_port)
        server.shutdown()


def asking(port: int) -> list[str]:
    return ["--vulnerability-service", "osv", "--osv-url", f"http://127.0.0.1:{port}/v1/query"]


def test_all_verified(service: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main(service) == 0
    assert "pins.txt: 2 verified, none not verified" in capsys.readouterr().out


def test_a_vulnerability_is_named(service: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Osv.known = {"click": KNOWN}
    assert audit.main(service) == 1
    assert "click 8.5.1: PYSEC-2026-1 (fixed in 8.6.0)" in capsys.readouterr().out


def test_a_database_out_of_reach_is_no_success(service: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main(asking(free_port())) == 2
    said = capsys.readouterr().out
    assert "0 verified" in said
    assert "NOT VERIFIED" in said


def test_a_skipped_package_is_no_success(
    service: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """pip-audit skips what it cannot place, such as this, and what the index does not know, with exit status 0."""
    (tmp_path / "pins.txt").write_text(PINS + "local @ file:///nowhere/local.whl\n")
    assert audit.main(service) == 2
    said = capsys.readouterr().out
    assert "pins.txt: 2 verified, local not verified" in said
    assert "URL requirement" in said


def test_no_pins_are_no_success(service: list[str], tmp_path: Path) -> None:
    (tmp_path / "pins.txt").write_text("# none\n")
    assert audit.main(service) == 2


def test_everything_pinned_is_audited() -> None:
    pinned = {path.name for path in (audit.ROOT / "constraints").glob("*.txt")}
    assert pinned - {"gateway-hashed.txt"} == {path.name for path in audit.PINS}
