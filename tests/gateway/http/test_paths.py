"""Path prefixes, and slashes too many."""

import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from gateway.settings import Settings
from tests.gateway.http.conftest import MakeClient
from tests.gateway.http.test_middleware import BODY, TEXT, metric


class TestPrefix:
    @pytest.mark.parametrize("prefix", ["", "/vision"])
    def test_a_proxy_may_remove_the_prefix_or_pass_it_on(self, make_client: MakeClient, prefix: str) -> None:
        client = make_client(root_path="/vision")
        assert client.post(prefix + TEXT, json=BODY).status_code == 200
        assert client.get(f"{prefix}/openapi.json").json()["servers"] == [{"url": "/vision"}]
        assert client.get(f"{prefix}/docs").status_code == 200
        assert client.post(f"{prefix}/v1/embeddings", json={"input": 7}).json()["error"]["type"]
        assert metric(client, "pe_requests_total", route=TEXT, status="200") == 1

    def test_other_prefixes_are_not_found(self, make_client: MakeClient) -> None:
        client = make_client(root_path="/vision")
        assert client.post(f"/another{TEXT}", json=BODY).status_code == 404
        assert client.post(f"/visionary{TEXT}", json=BODY).status_code == 404

    def test_no_prefix_by_default(self, client: TestClient) -> None:
        assert client.post(f"/vision{TEXT}", json=BODY).status_code == 404
        assert "servers" not in client.get("/openapi.json").json()

    @pytest.mark.parametrize("path", ["/a b", "/a//b", "/<script>"])
    def test_invalid_prefixes_are_refused(self, path: str) -> None:
        with pytest.raises(ValidationError):
            Settings(root_path=path)


class TestSlashes:
    """`api_url="http://host:9001/"`, as people paste it, and what else clients make of addresses."""

    @pytest.mark.parametrize("root_path", ["", "/vision"])
    @pytest.mark.parametrize("path", [f"{TEXT}/", f"/{TEXT}", f"//{TEXT}//", TEXT.replace("/", "//")])
    def test_posts(self, make_client: MakeClient, root_path: str, path: str) -> None:
        client = make_client(root_path=root_path)
        for prefix in {"", root_path, f"/{root_path}"} - {"/"}:
            # An address that begins with two slashes would be one of another host.
            answer = client.post(f"http://testserver{prefix}{path}", json=BODY, follow_redirects=False)
            assert answer.status_code == 200, prefix
        assert metric(client, "pe_requests_total", route="other", status="404") == 0

    @pytest.mark.parametrize(
        "path", ["/healthz", "/readiness", "/info", "/metrics", "/model/registry", "/openapi.json", "/v1/models"]
    )
    def test_gets(self, client: TestClient, path: str) -> None:
        for odd in (f"{path}/", f"http://testserver/{path}", f"{path}//"):
            assert client.get(odd, follow_redirects=False).status_code == 200, odd
        assert client.get("/v1//models/PE-Fake-T8-16/").json()["id"] == "PE-Fake-T8-16"

    def test_errors_have_the_form_of_their_route(self, client: TestClient) -> None:
        assert "error" in client.post("http://testserver//v1/embeddings/", json={"input": 7}).json()
        assert client.get(f"{TEXT}/").status_code == 405
        assert client.post("/perception_encoder/", json=BODY).status_code == 404

    def test_pages(self, make_client: MakeClient) -> None:
        """The links of the documentation are relative to a path without a slash at its end."""
        for client, prefix in ((make_client(), ""), (make_client(root_path="/vision"), "/vision")):
            answer = client.get(f"{prefix}/docs/", follow_redirects=False)
            assert (answer.status_code, answer.headers["location"]) == (307, "../docs")
            assert str(client.get(f"{prefix}/docs/").url) == f"http://testserver{prefix}/docs"
            assert client.get(f"http://testserver{prefix}//").status_code == 200

    def test_open_paths_stay_open_and_others_do_not_open(self, make_client: MakeClient) -> None:
        client = make_client(api_keys="key")
        assert client.get("/healthz/").status_code == 200
        for path in ("/v1/models/", "http://testserver//v1/models", "http://testserver//docs/../v1/models"):
            assert client.get(path).status_code == 401, path
        assert client.post(f"{TEXT}/", json=BODY).status_code == 401
