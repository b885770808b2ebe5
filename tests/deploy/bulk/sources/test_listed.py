"""Lists of paths, URLs and texts."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deploy.bulk.errors import ItemError, UsageError
from deploy.bulk.sources import files
from deploy.bulk.sources.listed import Listed

pytestmark = pytest.mark.bulk

MAX_BYTES = 1000


@pytest.fixture
def web() -> Iterator[str]:
    """A web server: /ok, /moved (to /ok), /loop, /long, /lost, /drip, and /flaky and /busy, which fail at first."""
    tries: list[str] = []
    when: list[float] = []
    closing = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            tries.append(self.path)
            status = {"/moved": 302, "/loop": 302, "/lost": 404, "/broken": 500, "/later": 429}.get(self.path, 200)
            if self.path in ("/flaky", "/busy") and tries.count(self.path) == 1:
                status = {"/flaky": 503, "/busy": 429}[self.path]
            if self.path == "/busy":
                when.append(time.monotonic())
                status = 400 if len(when) == 2 and when[1] - when[0] < 1 else status
            self.send_response(status)
            if status in (429, 503):
                self.send_header("Retry-After", "1")
            if self.path == "/later":
                self.send_header("Retry-After", "3000")
            if status == 302:
                self.send_header("Location", {"/moved": "/ok"}.get(self.path, self.path))
            self.end_headers()
            while self.path == "/drip" and not closing.wait(0.05):
                try:
                    self.wfile.write(b"x")
                except OSError:
                    return
            if status == 200:
                self.wfile.write(b"x" * 5000 if self.path == "/long" else b"picture")

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        closing.set()
        server.shutdown()
        thread.join()


def test_paths_begin_in_the_root(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/a.jpg").write_bytes(b"a")
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfa.jpg\r\n\r\nnone.jpg\n" + bytes(tmp_path / "list.txt") + b"\n")
    good, missing, absolute = Listed.read(str(tmp_path / "list.txt"), tmp_path / "pictures")
    assert good.id == "a.jpg"
    assert good.load(MAX_BYTES) == b"a"
    assert absolute.load(MAX_BYTES)
    with pytest.raises(ItemError, match="No such file"):
        missing.load(MAX_BYTES)


def test_repeated_lines_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("b\na\nb\nb\n")
    listed = Listed.read(str(tmp_path / "list.txt"), tmp_path)
    assert list(listed.ids()) == [item.id for item in listed] == ["b", "a"]
    assert listed.repeated == 2


def test_lines_that_are_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\xff.jpg\n")
    with open(bytes(tmp_path) + b"/\xff.jpg", "wb") as file:
        file.write(b"data")
    (item,) = Listed.read(str(tmp_path / "list.txt"), tmp_path)
    assert item.id == r"\xff.jpg"
    assert item.load(MAX_BYTES) == b"data"
    (text,) = Listed.read(str(tmp_path / "list.txt"), tmp_path, text=True)
    with pytest.raises(ItemError, match="not UTF-8"):
        text.load(MAX_BYTES)


def test_texts(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a red circle\nhttp://is.a/text\n")
    assert [item.load(MAX_BYTES) for item in Listed.read(str(tmp_path / "list.txt"), tmp_path, text=True)] == [
        "a red circle",
        "http://is.a/text",
    ]


def test_a_null_byte_in_a_path_is_an_error_of_its_row(tmp_path: Path) -> None:
    (item,) = Listed(["a\0b"], "list", tmp_path)
    with pytest.raises(ItemError, match="null byte"):
        item.load(MAX_BYTES)


@pytest.mark.parametrize("name", ["none.txt", "."])
def test_a_list_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"this list cannot be read: (No such file|Is a directory)"):
        Listed.read(str(tmp_path / name), tmp_path)


@pytest.mark.parametrize("path", ["/ok", "/moved", "/flaky", "/busy"])
def test_urls(web: str, path: str) -> None:
    (item,) = Listed([web + path], "list", Path())
    assert item.id == web + path
    assert item.load(MAX_BYTES) == b"picture"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/lost", "The URL has status 404"),
        ("/long", "more than 1000 bytes"),
        ("/broken", "cannot be fetched: status 500"),
        ("/later", "cannot be fetched: status 429"),
        ("/loop", "cannot be fetched: .*redirects"),
    ],
)
def test_urls_that_are_no_pictures(web: str, path: str, message: str) -> None:
    (item,) = Listed([web + path], "list", Path())
    with pytest.raises(ItemError, match=message):
        item.load(MAX_BYTES)


def test_a_url_that_never_ends(web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_MAX_URL_SECONDS", 0.5)
    (item,) = Listed([f"{web}/drip"], "list", Path())
    with pytest.raises(ItemError, match=r"The URL took more than 0.5 seconds"):
        item.load(MAX_BYTES)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/a.jpg", "http://[::1", "http://", "https://a b/"])
def test_urls_that_lead_nowhere(url: str) -> None:
    (item,) = Listed([url], "list", Path())
    with pytest.raises(ItemError, match="The URL cannot be fetched: "):
        item.load(MAX_BYTES)
