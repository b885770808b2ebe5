from dataclasses import replace

from starlette.testclient import TestClient

from gateway.http.app import create_app
from gateway.settings import Settings
from tests.fakes import EMBED_DIM, FakeEncoder, FakeFetch, InlineDecoder, fake_spec
from tests.gateway.http.conftest import MakeClient


def test_ready_and_alive(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "healthy"}
    assert client.get("/readiness").json() == {"status": "ready"}


def test_a_monitor_may_ask_without_a_body(make_client: MakeClient) -> None:
    encoder = FakeEncoder()
    client = make_client(encoder)
    assert [client.head(path).status_code for path in ("/healthz", "/readiness")] == [200, 200]
    encoder.specs = {}
    assert [client.head(path).status_code for path in ("/healthz", "/readiness")] == [200, 503]


def test_info_has_the_incumbents_keys_first_and_says_what_is_served(make_client: MakeClient) -> None:
    spec = fake_spec("A", token_lengths=(4, 8))
    lengths = {"context_length": "8", "token_lengths": "4 8"}
    spec = replace(spec, text=replace(spec.text, certificate={**spec.text.certificate, **lengths}))
    info = make_client(FakeEncoder(spec, fake_spec("B"))).get("/info").json()
    assert list(info) == ["name", "version", "uuid", "models", "limits"]
    assert list(info["models"]) == ["A", "B"]
    model = info["models"]["A"]
    assert model["image_size"] == [16, 16]
    assert (model["context_length"], model["token_lengths"]) == (8, [4, 8])
    assert model["embed_dim"] == EMBED_DIM
    assert model["precision"] == "fp32"
    assert model["notice"] == "A fake."
    assert model["vision"] == model["text"] == {"version": "1", "max_batch_size": 8}


def test_openapi_knows_the_bodies(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    for name in ("embed_image", "embed_text", "compare"):
        body = document["paths"][f"/perception_encoder/{name}"]["post"]["requestBody"]
        reference = body["content"]["application/json"]["schema"]["$ref"]
        schema = document["components"]["schemas"][reference.rsplit("/", 1)[1]]
        assert "perception_encoder_version_id" in schema["properties"]
    assert "InferenceRequestImage" in document["components"]["schemas"]


def test_docs(client: TestClient) -> None:
    assert client.get("/docs").status_code == 200


def test_the_encoder_and_the_fetcher_live_as_long_as_the_app() -> None:
    encoder, fetch = FakeEncoder(), FakeFetch()
    app = create_app(Settings(), encoder, fetch, InlineDecoder())
    assert (encoder.entered, fetch.closed) == (False, False)
    with TestClient(app):
        assert (encoder.entered, fetch.closed) == (True, False)
    assert (encoder.entered, fetch.closed) == (False, True)
