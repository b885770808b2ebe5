import re
import resource
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from gateway.http import page
from tests.gateway.http.conftest import MakeClient

STATIC = Path(page.__file__).parent / "static"
WRITTEN = sorted(path for path in STATIC.iterdir() if path.suffix in (".html", ".css", ".js", ".svg"))


def test_the_page_is_served_under_a_policy_that_allows_this_server_alone(client: TestClient) -> None:
    answer = client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert not re.search(r"https?:|\*", policy)
    assert client.head("/").status_code == 200


def test_all_that_it_names_is_served(client: TestClient) -> None:
    named = set(re.findall(r'(?:href|src)="(page/[^"]+)"', client.get("/").text))
    assert named == {"page/icon.svg", "page/app.js", *(f"page/{path.name}" for path in STATIC.glob("*.css"))}
    for script in STATIC.glob("*.js"):
        named |= {f"page/{name}" for name in re.findall(r'from "\./([\w.]+)"', script.read_text())}
    named |= {
        f"page/samples/{name}" for name in re.findall(r'"file": "([\w.-]+)"', (STATIC / "samples.js").read_text())
    }
    assert len(named) > 40
    for path in named:
        answer = client.get(f"/{path}")
        assert answer.status_code == 200, path
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert client.get("/page/app.js").headers["content-type"].startswith("text/javascript")


def test_nothing_is_served_that_it_does_not_use(client: TestClient) -> None:
    """All files of the folder are in the wheel, too."""
    used = client.get("/").text + "".join(path.read_text() for path in STATIC.glob("*.js"))
    for path in STATIC.rglob("*"):
        assert path.is_dir() or path.name == "index.html" or path.name in used, path


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.name)
def test_no_file_of_it_names_another_host_or_an_absolute_path(path: Path) -> None:
    text = re.sub(r"^\s*(//|\*|/\*).*$", "", path.read_text(), flags=re.MULTILINE)  # Comments may name sources.
    text = text.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?://\w|(?:href|src)=\"/|\burl\(|@import|fetch\([\"'`]/", text)
    if path.suffix == ".html":
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*src=)", text)


def test_a_browser_asks_whether_its_copy_is_the_newest(client: TestClient) -> None:
    first = client.get("/page/base.css")
    assert first.headers["cache-control"] == "no-cache"
    assert client.get("/page/base.css", headers={"if-none-match": first.headers["etag"]}).status_code == 304


@pytest.mark.parametrize("path", ["/page/app.js", "/docs/style.css", "/docs/swagger-ui-bundle.js"])
def test_files_take_no_descriptor(client: TestClient, path: str) -> None:
    """Clients that do not read their responses would use up the descriptors of all."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        answer = client.get(path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert answer.status_code == 200
    assert len(answer.content) == int(answer.headers["content-length"])


@pytest.mark.parametrize(
    "path", ["/page/", "/page/nope.js", "/page//etc/passwd", "/page/%2e%2e/__init__.py", "/page/%00"]
)
def test_other_files_are_not_served(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_it_can_be_turned_off(make_client: MakeClient) -> None:
    client = make_client(playground=False)
    assert client.get("/").status_code == 404
    assert client.get("/page/app.js").status_code == 404
    assert client.get("/docs").status_code == 200


def test_it_works_below_a_path_prefix(make_client: MakeClient) -> None:
    client = make_client(root_path="/vision")
    for prefix in ("/vision", ""):  # The proxy may remove the prefix or pass it on.
        assert client.get(f"{prefix}/").status_code == 200
        assert client.get(f"{prefix}/page/app.js").status_code == 200


def test_info_tells_it_how_much_one_request_may_hold(make_client: MakeClient) -> None:
    info = make_client(max_items=7, max_body_bytes=12345).get("/info").json()
    assert info["limits"] == {"max_items": 7, "max_texts": 7, "max_body_bytes": 12345}
