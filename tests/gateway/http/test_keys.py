"""API-key authentication."""

import base64
import logging
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.gateway.http.conftest import MakeClient
from tests.gateway.http.test_middleware import metric
from tests.pictures import flat

TEXT = "/perception_encoder/embed_text"
OPENAI = "/v1/embeddings"
KEYS = "first-key, second-key"
IMAGE = flat((1, 2, 3))
UNAUTHORIZED = {"status": 401, "message": "Unauthorized api_key"}


@pytest.fixture
def locked(make_client: MakeClient) -> TestClient:
    return make_client(api_keys=KEYS)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.mark.parametrize("key", ["first-key", "second-key"])
def test_each_key_by_each_way(locked: TestClient, key: str) -> None:
    assert locked.post(TEXT, params={"api_key": key}, json={"text": "x"}).status_code == 200
    assert locked.post(TEXT, headers=bearer(key), json={"text": "x"}).status_code == 200
    assert locked.post(TEXT, headers={"authorization": f"bearer  {key} "}, json={"text": "x"}).status_code == 200
    assert locked.post(TEXT, json={"text": "x", "api_key": key}).status_code == 200
    assert locked.post(OPENAI, json={"input": "x", "api_key": key}).status_code == 200
    assert locked.get("/v1/models", headers=bearer(key)).status_code == 200
    image = {"content-type": "image/png"}
    assert locked.post("/perception_encoder/embed_image", headers=image | bearer(key), content=IMAGE).status_code == 200


@pytest.mark.parametrize(
    "request_",
    [
        {"json": {"text": "x"}},
        {"json": {"text": "x", "api_key": None}},
        {"json": {"text": "x", "api_key": ["first-key"]}},
        {"json": {"text": "x", "api_key": "first-key "}},
        {"json": {"text": "x", "api_key": "\ud800"}},
        {"json": {"text": "x"}, "headers": bearer("third-key")},
        {"json": {"text": "x"}, "headers": {"authorization": "Basic first-key"}},
        {"json": {"text": "x"}, "headers": {"authorization": "first-key"}},
        {"json": {"text": "x"}, "params": {"api_key": "first-key, second-key"}},
        {"json": {"nonsense": "x"}},
        {"json": ["api_key", "first-key"]},
        {"content": b"{"},
        {"content": b""},
        {"content": b"\xff"},
        {"content": IMAGE, "headers": {"content-type": "image/png"}},
        {"content": b"first-key", "headers": {"content-type": "text/plain"}},
        {"files": {"image": IMAGE}},
    ],
)
@pytest.mark.parametrize("path", ["/perception_encoder/embed_image", TEXT, OPENAI])
def test_no_key_or_a_wrong_one(locked: TestClient, path: str, request_: dict[str, Any]) -> None:
    request_ = dict(request_)
    if isinstance(request_.get("json"), dict) and "\ud800" in request_["json"].values():
        request_ = {"content": b'{"text": "x", "api_key": "\\ud800"}'}
    answer = locked.post(path, **request_)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    if path == OPENAI:
        assert answer.json()["error"]["code"] == "invalid_api_key"
        assert answer.json()["error"]["message"] == "Unauthorized api_key"
    else:
        assert answer.json() == UNAUTHORIZED
    assert metric(locked, "pe_refused_total", reason="Unauthorized") == 1


@pytest.mark.parametrize(
    ("query", "header", "body", "status"),
    [
        ("wrong", "first-key", "first-key", 401),
        ("first-key", "wrong", "wrong", 200),
        (None, "wrong", "first-key", 401),
        (None, "first-key", "wrong", 200),
        ("", "", "first-key", 200),
    ],
)
def test_the_first_place_that_has_one_decides(
    locked: TestClient, query: str | None, header: str | None, body: str, status: int
) -> None:
    params = {} if query is None else {"api_key": query}
    headers = {} if header is None else bearer(header)
    assert locked.post(TEXT, params=params, headers=headers, json={"text": "x", "api_key": body}).status_code == status


def test_all_routes_but_the_open_ones_need_a_key(locked: TestClient) -> None:
    open_paths = {"/healthz", "/readiness", "/info", "/metrics"}
    paths = locked.get("/openapi.json").json()["paths"]
    operations = [(method, path) for path, methods in paths.items() for method in methods]
    assert len(operations) >= 9
    for method, path in operations:
        assert (locked.request(method, path).status_code == 401) is (path not in open_paths), (method, path)


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json"])
def test_page_and_documentation_are_open(locked: TestClient, path: str) -> None:
    assert locked.get(path).status_code == 200


def test_metrics_can_be_locked(make_client: MakeClient) -> None:
    client = make_client(api_keys=KEYS, metrics_open=False)
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers=bearer("first-key")).status_code == 200


def test_a_server_without_keys_accepts_any_or_none(client: TestClient) -> None:
    for headers in ({}, bearer("whatever")):
        assert client.post(TEXT, headers=headers, json={"text": "x"}).status_code == 200


def test_the_order_of_refusal(make_client: MakeClient) -> None:
    """The length is checked before the key, and the key before the query and the content of the body."""
    client = make_client(api_keys=KEYS, max_body_bytes=100)
    assert client.post(TEXT, content=b"x" * 101).status_code == 413
    assert client.post(TEXT, headers=bearer("wrong"), content=b"{").status_code == 401
    wrong_query = {"countinference": "maybe"}
    assert client.post(TEXT, params=wrong_query, content=b"x" * 101).status_code == 413
    assert client.post(TEXT, params=wrong_query, headers=bearer("wrong"), content=b"{").status_code == 401
    assert client.post(TEXT, params=wrong_query, headers=bearer("first-key"), content=b"{").status_code == 422
    assert client.post(TEXT, content=(b"x" * 60 for _ in range(2))).status_code == 413
    assert client.post(TEXT, headers=bearer("first-key"), content=b"{").status_code == 422


def test_keys_appear_in_no_response_and_no_log_line(locked: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        answers = [
            locked.post(TEXT, params={"api_key": "first-key"}, json={"text": 1}),
            locked.post(TEXT, params={"api_key": "secret-guess"}, json={"text": 1}),
            locked.post(TEXT, json={"text": "x", "api_key": "secret-guess"}),
            locked.get("/nowhere?api_key=secret-guess"),
            locked.get("/info"),
            locked.get("/metrics"),
        ]
    ours = "".join(record.getMessage() for record in caplog.records if not record.name.startswith("httpx2"))
    output = ours + "".join(answer.text + str(answer.headers) for answer in answers)
    for key in ("first-key", "second-key", "secret-guess", base64.b64encode(b"first-key").decode()):
        assert key not in output
