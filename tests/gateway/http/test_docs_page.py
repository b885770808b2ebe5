import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from gateway.http import docs
from tests.gateway.http.conftest import MakeClient

STATIC = Path(docs.__file__).parent / "static"


@pytest.mark.parametrize("prefix", ["", "/vision"])
def test_the_page_and_all_that_it_names_are_served(make_client: MakeClient, prefix: str) -> None:
    client = make_client(root_path=prefix)
    page = client.get(f"{prefix}/docs")
    assert page.status_code == 200
    assert "unsafe" not in page.headers["content-security-policy"]
    named = re.findall(r'(?:href|src)="([^"]+)"', page.text)
    assert len(named) == 8
    for path in named:
        assert client.get(f"{prefix}/{path}").status_code == 200, path
        assert "://" not in path


def test_it_links_to_the_playground_where_there_is_one(make_client: MakeClient) -> None:
    assert '<a href="./">' in make_client().get("/docs").text
    assert '<a href="./">' not in make_client(playground=False).get("/docs").text


def test_it_is_one_of_two_pages_at_most(client: TestClient) -> None:
    """FastAPI's other page would load files from another host."""
    assert client.get("/redoc").status_code == 404
    assert client.get("/docs/redoc.standalone.js").status_code == 404


def test_it_shows_the_document_of_this_server() -> None:
    assert 'url: "openapi.json"' in (STATIC / "start.js").read_text()
