"""Requests that go past FastAPI are answered as if they had not."""

import inspect

import pytest
from fastapi.routing import APIRoute
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from gateway.errors import EncoderFault
from gateway.http import openai, roboflow
from gateway.http.direct import Direct
from tests.fakes import FakeEncoder
from tests.gateway.http.conftest import MakeClient
from tests.pictures import flat

TEXT = "/perception_encoder/embed_text"
IMAGE = "/perception_encoder/embed_image"
POSTS = [
    route
    for router in (roboflow.router, openai.router)
    for route in router.routes
    if isinstance(route, APIRoute) and route.methods == {"POST"}
]


@pytest.mark.parametrize("route", POSTS, ids=lambda route: route.path)
def test_they_take_nothing_that_only_fastapi_could_give(route: APIRoute) -> None:
    assert list(inspect.signature(route.endpoint).parameters) == ["request"]


@pytest.fixture
def asked_of_fastapi(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of requests that the app behind ``Direct`` was asked for."""
    asked: list[str] = []
    original = Direct.__init__

    def remember(self: Direct, app: object, **arguments: object) -> None:
        async def remembering(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                asked.append(scope["path"])
            await app(scope, receive, send)  # type: ignore[operator]

        original(self, remembering, **arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Direct, "__init__", remember)
    return asked


@pytest.mark.parametrize(
    ("path", "goes_direct"),
    [
        (TEXT, True),
        (f"{TEXT}?api_key=k&x=1", True),
        (f"{TEXT}?countinference=true", False),
        (f"{TEXT}/", False),
        ("/healthz", False),
    ],
)
def test_which_go_direct(asked_of_fastapi: list[str], make_client: MakeClient, path: str, goes_direct: bool) -> None:
    make_client().post(path, json={"text": "a cat"})
    assert (asked_of_fastapi == []) is goes_direct


@pytest.mark.parametrize("query", ["", "?countinference=true"])
@pytest.mark.parametrize(
    ("content", "status", "key"),
    [
        (b'{"text": "a cat"}', 502, "message"),
        (b'{"text": "a", "perception_encoder_version_id": "No"}', 404, "message"),
        (b'{"text": 7}', 422, "detail"),
        (b"{", 422, "detail"),
        (b"\xff", 400, "detail"),
    ],
)
def test_both_ways_give_the_same_errors(
    make_client: MakeClient, query: str, content: bytes, status: int, key: str
) -> None:
    client = make_client(FakeEncoder(error=EncoderFault("No.")))
    answer = client.post(TEXT + query, content=content)
    assert (answer.status_code, list(answer.json())) == (status, [key])


@pytest.mark.parametrize("query", ["perception_encoder_version_id=No", "x=1&perception_encoder_version_id=No"])
def test_the_variant_in_the_query_is_read_either_way(client: TestClient, query: str) -> None:
    png = {"content-type": "image/png"}
    for more in ("", "&countinference=1"):
        assert client.post(f"{IMAGE}?{query}{more}", content=flat((1, 2, 3)), headers=png).status_code == 404
