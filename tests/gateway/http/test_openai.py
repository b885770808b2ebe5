"""OpenAI's routes, called directly and by OpenAI's own client."""

import base64
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from gateway.errors import EncoderUnavailable, Overloaded
from gateway.http.openai import EmbeddingsRequest
from tests.fakes import EMBED_DIM, FakeEncoder, FakeFetch, fake_spec, unit_vector
from tests.gateway.http.conftest import MakeClient
from tests.pictures import flat

if TYPE_CHECKING:
    import openai  # The import takes 1.5 s, so only the tests that use the client pay for it.

RED = (255, 0, 0)
PLAIN = base64.b64encode(flat(RED)).decode()
DATA_URI = "data:image/png;base64," + PLAIN
URL = "https://example.com/red.png"


def post(client: TestClient, given: Any, **fields: Any) -> Any:
    return client.post("/v1/embeddings", json={"input": given, **fields})


@pytest.mark.parametrize("image", [DATA_URI, {"image": DATA_URI}, {"image": PLAIN}, {"image": URL}])
def test_texts_and_images_mixed(make_client: MakeClient, image: Any) -> None:
    client = make_client(fetch=FakeFetch({URL: flat(RED)}))
    answer = post(client, ["a cat", image, {"text": "a dog"}]).json()
    assert list(answer) == ["object", "data", "model", "usage"]
    assert [item["index"] for item in answer["data"]] == [0, 1, 2]
    np.testing.assert_allclose(answer["data"][1]["embedding"], unit_vector(np.array(RED)), atol=1e-6)
    (dog,) = post(client, "a dog").json()["data"]
    assert dog["embedding"] == answer["data"][2]["embedding"]
    assert answer["model"] == "PE-Fake-T8-16"
    assert answer["usage"] == {"prompt_tokens": 8, "total_tokens": 8}  # Each text: start, "a", noun, end.


def test_a_url_alone_is_a_text(make_client: MakeClient) -> None:
    """OpenAI's API does not say that strings are fetched, so a string is never fetched."""
    encoder = FakeEncoder()
    assert post(make_client(encoder), URL).status_code == 200
    assert encoder.batches == [("texts", 1)]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": None}, "input"),
        ({"input": ["a", 1]}, "input[1]"),
        ({"input": ["a", None]}, "input[1]"),
        ({"input": [{"text": 1}]}, "input[0].text"),
        ({"input": {"image": DATA_URI, "text": "a"}}, "input"),
        ({"input": {"text": None}}, "input"),
        ({"input": ["a", {"url": URL}]}, "input[1]"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ({"input": []}, None),
        ({"input": "a", "dimensions": 4}, None),
        ({"input": ["a", {"image": "AAAA"}]}, "input[1]"),
        ({"input": ["a", {"image": ""}]}, "input[1]"),
        ({"input": ["a"] * 2049}, None),
        ({"input": [DATA_URI] * 65}, None),
    ],
)
def test_mistakes_have_openais_shape(client: TestClient, body: Any, param: str | None) -> None:
    answer = client.post("/v1/embeddings", json=body)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]
    error = answer.json()["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert not re.search("Fields|Item|Union|union|`(str|int|array)`", error["message"])
    assert len(answer.content) < 500


@pytest.mark.parametrize("given", [[1, 2], [[1, 2]], [[1]] * 3_000, [1] * 100_000], ids=lambda given: str(len(given)))
def test_token_ids_are_refused_with_what_to_change(client: TestClient, given: Any) -> None:
    answer = post(client, given)
    assert answer.status_code == 400
    message = answer.json()["error"]["message"]
    assert "token ids" in message
    assert "OpenAIEmbeddings(check_embedding_ctx_length=False)" in message


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000])
def test_bodies_that_cannot_be_read(client: TestClient, content: bytes) -> None:
    answer = client.post("/v1/embeddings", content=content)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/nothing", 404), ("GET", "/v1/embeddings", 405), ("GET", "/v1/models/x", 404)],
)
def test_other_routes_have_it_too(client: TestClient, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]


def test_the_servers_errors_have_it_too(make_client: MakeClient) -> None:
    for error, status, kind in (
        (Overloaded("a"), 429, "rate_limit_error"),
        (EncoderUnavailable("b"), 503, "server_error"),
    ):
        answer = post(make_client(FakeEncoder(error=error)), "a cat")
        assert (answer.status_code, answer.json()["error"]["type"]) == (status, kind)
        assert answer.headers["retry-after"] == "1"
    assert list(post(make_client(max_body_bytes=5), "a cat").json()) == ["error"]


def test_as_many_texts_as_openai_takes_with_images_among_them(client: TestClient) -> None:
    answer = post(client, [f"text {i}" for i in range(2_045)] + [DATA_URI] * 3).json()
    assert [item["index"] for item in answer["data"]] == list(range(2_048))


def test_truncation_is_reported(client: TestClient) -> None:
    answer = post(client, ["cat", DATA_URI, "cat " * 9])
    assert answer.headers["x-truncated"] == "2"
    # A header of thousands of indices would not pass every proxy.
    answer = post(client, ["cat " * 9] * 2_048)
    assert answer.headers["x-truncated"].split(",") == [*map(str, range(256)), "..."]


def test_a_list_that_takes_longer_than_the_deadline(make_client: MakeClient) -> None:
    encoder = FakeEncoder(seconds=60)
    answer = post(make_client(encoder, deadline_seconds=0.3), [f"text {i}" for i in range(100)])
    assert answer.status_code == 504
    assert answer.json()["error"]["type"] == "server_error"
    assert encoder.cancelled == len(encoder.batches)


def test_null_is_the_default(client: TestClient) -> None:
    items = [{"text": "a", "image": None}, {"text": None, "image": DATA_URI}]
    nulls = dict.fromkeys(EmbeddingsRequest.model_fields.keys() - {"input"})
    assert post(client, items, **nulls).json() == post(client, ["a", DATA_URI]).json()


def test_dimensions_that_are_the_models(client: TestClient) -> None:
    assert post(client, "a", dimensions=EMBED_DIM).status_code == 200


class TestOpenAIsClient:
    @pytest.fixture
    def official(self, make_client: MakeClient) -> "openai.OpenAI":
        import openai

        client = make_client(FakeEncoder(fake_spec("A"), fake_spec("B")), default_variant="A")
        return openai.OpenAI(base_url="http://testserver/v1", api_key="x", max_retries=0, http_client=client)

    def test_embeddings_in_both_encodings(self, official: "openai.OpenAI") -> None:
        # The client requests base64 by default, and decodes it.
        compact = official.embeddings.create(model="B", input=["a cat", DATA_URI])
        plain = official.embeddings.create(model="B", input=["a cat", DATA_URI], encoding_format="float")
        assert compact.model == "B"
        assert [item.index for item in compact.data] == [0, 1]
        for one, other in zip(compact.data, plain.data, strict=True):
            np.testing.assert_allclose(one.embedding, other.embedding, atol=1e-7)
        assert compact.usage.prompt_tokens == 4

    def test_models(self, official: "openai.OpenAI") -> None:
        assert [model.id for model in official.models.list()] == ["A", "B"]
        assert official.models.retrieve("B").id == "B"

    def test_errors(self, official: "openai.OpenAI") -> None:
        import openai

        with pytest.raises(openai.NotFoundError) as missing:
            official.embeddings.create(model="text-embedding-3-small", input="a cat")
        assert missing.value.code == "model_not_found"
        assert "Loaded: A, B." in missing.value.message
        with pytest.raises(openai.BadRequestError):
            official.embeddings.create(model="A", input="a cat", dimensions=7)
