"""Every POST route takes one path, which does not depend on the query, the prefix or the way it is routed."""

import inspect
from collections.abc import Iterator

import pytest
from fastapi import APIRouter, FastAPI, Request
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from gateway.errors import EncoderFault
from gateway.http import app as app_module
from gateway.http import classify, openai, roboflow, roboflow_wire
from gateway.http.app import create_app
from gateway.http.body import read_json
from gateway.http.dispatch import Dispatch, EndpointRoute
from gateway.settings import Settings
from tests.fakes import FakeEncoder, FakeFetch, InlineDecoder
from tests.gateway.http.conftest import MakeClient
from tests.gateway.http.test_middleware import metric
from tests.pictures import base64_image, flat

TEXT = "/perception_encoder/embed_text"
IMAGE = "/perception_encoder/embed_image"
BODIES = {
    TEXT: {"text": "a cat"},
    IMAGE: {"image": base64_image(flat((1, 2, 3)))},
    "/perception_encoder/compare": {"subject": "a", "subject_type": "text", "prompt": "b"},
    "/perception_encoder/classify": {"image": base64_image(flat((1, 2, 3))), "classes": ["a"]},
    "/v1/embeddings": {"input": "a cat"},
}


def post_routes(app: FastAPI) -> Iterator[APIRoute]:
    """The POST routes that the app's document has."""
    paths = {path for path, methods in app.openapi()["paths"].items() if "post" in methods}
    for router in (roboflow.router, classify.router, openai.router):
        for route in router.routes:
            if isinstance(route, APIRoute) and route.path in paths and "POST" in (route.methods or ()):
                paths.remove(route.path)
                yield route
    assert not paths, "routes of another router"


def test_all_post_routes_are_endpoint_routes_with_nothing_for_fastapi_to_resolve() -> None:
    routes = list(post_routes(create_app(Settings(), FakeEncoder(), FakeFetch(), InlineDecoder())))
    assert {route.path for route in routes} == set(BODIES)
    for route in routes:
        assert isinstance(route, EndpointRoute)
        assert list(inspect.signature(route.endpoint).parameters) == ["request"]


@pytest.fixture
def handled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of the requests that `EndpointRoute` answered, and "fastapi" for those that the app behind it saw."""
    handled: list[str] = []
    handle, init = EndpointRoute.handle, Dispatch.__init__

    async def record(self: EndpointRoute, scope: Scope, receive: Receive, send: Send) -> None:
        handled.append(scope["path"])
        await handle(self, scope, receive, send)

    def init_recording(self: Dispatch, app: object, **arguments: object) -> None:
        async def recording(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                handled.append("fastapi")
            await app(scope, receive, send)  # type: ignore[operator]

        init(self, recording, **arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(EndpointRoute, "handle", record)
    monkeypatch.setattr(Dispatch, "__init__", init_recording)
    return handled


@pytest.mark.parametrize("query", ["", "?api_key=k&x=1", "?countinference=true", "?countinference=maybe"])
@pytest.mark.parametrize("path", BODIES)
def test_a_post_takes_the_one_path(handled: list[str], make_client: MakeClient, path: str, query: str) -> None:
    client = make_client()
    answer = client.post(path + query, json=BODIES[path])
    assert handled == [path]
    # OpenAI's API does not have the parameter.
    wrong = query.endswith("maybe") and not path.startswith("/v1/")
    assert answer.status_code == (422 if wrong else 200)
    if wrong:
        assert answer.json() == {
            "detail": [
                {
                    "type": "bool_parsing",
                    "loc": ["query", "countinference"],
                    "msg": "Input should be a valid boolean, unable to interpret input",
                    "input": "maybe",
                }
            ]
        }
    # The middlewares around the path saw the request and the route.
    assert len(answer.headers["x-request-id"]) == 32
    assert "total;dur=" in answer.headers["server-timing"]
    assert metric(client, "pe_requests_total", route=path, status=str(answer.status_code)) == 1
    assert metric(client, "pe_in_flight") == 0


@pytest.mark.parametrize("path", [f"{TEXT}/x", "/v1/models", "/healthz"])
def test_other_posts_are_fastapis(handled: list[str], make_client: MakeClient, path: str) -> None:
    assert make_client().post(path, json={"text": "a cat"}).status_code in (404, 405)
    assert handled[0] == "fastapi"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
@pytest.mark.parametrize("path", BODIES)
def test_other_methods_are_not_allowed(client: TestClient, method: str, path: str) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("routed_by", ["Dispatch", "FastAPI"])
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
def test_fastapis_router_leads_to_the_same_errors(
    monkeypatch: pytest.MonkeyPatch, make_client: MakeClient, routed_by: str, content: bytes, status: int, key: str
) -> None:
    if routed_by == "FastAPI":
        monkeypatch.setattr(app_module, "Dispatch", lambda app, routes: app)
    client = make_client(FakeEncoder(error=EncoderFault("No.")))
    answer = client.post(TEXT, content=content)
    assert (answer.status_code, list(answer.json())) == (status, [key])
    assert metric(client, "pe_requests_total", route=TEXT, status=str(status)) == 1


@pytest.mark.parametrize("more", ["", "&countinference=1"])
@pytest.mark.parametrize("query", ["perception_encoder_version_id=No", "x=1&perception_encoder_version_id=No"])
def test_the_variant_in_the_query(client: TestClient, query: str, more: str) -> None:
    png = {"content-type": "image/png"}
    assert client.post(f"{IMAGE}?{query}{more}", content=flat((1, 2, 3)), headers=png).status_code == 404


def test_a_key_is_needed_even_if_the_endpoint_reads_no_body() -> None:
    """Such an endpoint would be open, because the key of a JSON request may be in the body."""
    router = APIRouter(route_class=EndpointRoute)

    @router.post("/careless")
    async def careless(request: Request) -> Response:
        return Response("secret")

    @router.post("/careful")
    async def careful(request: Request) -> Response:
        await read_json(request, roboflow_wire.EmbedTextRequest, roboflow_wire.EmbedTextFields)
        return Response("secret")

    app = create_app(Settings.model_validate({"api_keys": "key"}), FakeEncoder(), FakeFetch(), InlineDecoder())
    app.include_router(router)
    body = {"text": "x", "api_key": "key"}
    with TestClient(app) as client:
        assert client.post("/careful", json=body).text == "secret"
        assert client.post("/careless", headers={"authorization": "Bearer key"}).text == "secret"
        for answer in (client.post("/careless", json=body), client.post("/careful", json={"text": "x"})):
            assert (answer.status_code, answer.json()["message"]) == (401, "Unauthorized api_key")
