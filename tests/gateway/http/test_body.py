"""Reading bodies, whole or as JSON documents with long strings."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image
from starlette.requests import ClientDisconnect, Request
from starlette.testclient import TestClient
from starlette.types import Message

from gateway.http.app import create_app
from gateway.http.body import read_bytes
from gateway.settings import Settings
from tests.fakes import FakeEncoder, FakeFetch, InlineDecoder, fake_spec
from tests.gateway.http.conftest import MakeClient
from tests.pictures import base64_image, encoded, flat

IMAGE = "/perception_encoder/embed_image"
TEXT = "/perception_encoder/embed_text"
COMPARE = "/perception_encoder/compare"
OPENAI = "/v1/embeddings"


def request_of(*messages: Message) -> Request:
    remaining: Iterator[Message] = iter(messages)

    async def receive() -> Message:
        return next(remaining)

    return Request({"type": "http", "headers": []}, receive)


def part(body: bytes, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


@pytest.mark.parametrize("parts", [[b""], [b"abc"], [b"a", b"", b"bc"], [b"abc", b""], [b"a", b"b", b"c"]])
async def test_a_body_in_any_number_of_parts(parts: list[bytes]) -> None:
    messages = [part(data, more=i < len(parts) - 1) for i, data in enumerate(parts)]
    assert await read_bytes(request_of(*messages)) == b"".join(parts)


async def test_a_client_that_disconnects_before_the_end() -> None:
    with pytest.raises(ClientDisconnect):
        await read_bytes(request_of(part(b"a", more=True), {"type": "http.disconnect"}))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (IMAGE, {"image": base64_image(flat((255, 0, 0)))}),
        (TEXT, {"text": "a"}),
        (COMPARE, {"subject": "a", "subject_type": "text", "prompt": ["b"]}),
        ("/perception_encoder/classify", {"image": base64_image(flat((255, 0, 0))), "classes": ["a", "b"]}),
    ],
)
async def test_the_time_does_not_count_the_upload(path: str, body: dict[str, Any]) -> None:
    app = create_app(Settings(), FakeEncoder(), FakeFetch(), InlineDecoder())
    content, seconds = json.dumps(body).encode(), 0.3

    async def upload() -> AsyncIterator[bytes]:
        yield content[:1]
        await asyncio.sleep(seconds)
        yield content[1:]

    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://a") as client,
    ):
        answer = await client.post(path, content=upload(), headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text
    assert 0 < answer.json()["time"] < seconds


@pytest.fixture(scope="module")
def large() -> dict[str, str]:
    """An image whose base64 has more than a megabyte."""
    pixels = np.random.default_rng(0).integers(0, 256, (600, 600, 3), np.uint8)
    return base64_image(encoded(Image.fromarray(pixels)))


def post(client: TestClient, path: str, body: Any, escape_slashes: bool = False) -> Any:
    content = json.dumps(body)
    if escape_slashes:  # as PHP does
        content = content.replace("/", "\\/")
    answer = client.post(path, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text[:200]
    return answer.json()


@pytest.mark.parametrize("escape_slashes", [False, True])
def test_large_images_on_each_route(client: TestClient, large: dict[str, str], escape_slashes: bool) -> None:
    assert len(large["value"]) > 2**20
    (row,) = post(client, IMAGE, {"image": large}, escape_slashes)["embeddings"]
    assert post(client, IMAGE, {"image": [large] * 2}, escape_slashes)["embeddings"] == [row] * 2
    for item in ({"image": large["value"]}, "data:image/png;base64," + large["value"]):
        data = post(client, OPENAI, {"input": ["a cat", item]}, escape_slashes)["data"]
        assert data[1]["embedding"] == row
    for prompt in (large, large["value"], [large], {"a": large}):
        body = {"subject": large, "prompt": prompt, "prompt_type": "image"}
        similarity = post(client, COMPARE, body, escape_slashes)["similarity"]
        (cosine,) = similarity.values() if isinstance(similarity, dict) else similarity
        assert cosine == pytest.approx(1, abs=1e-6)


def test_a_wrong_large_image(client: TestClient, large: dict[str, str]) -> None:
    malformed = "Could not load input image. Cause: Malformed base64 input image."
    invalid = "Could not load input image. Cause: Provided image URL is invalid"
    for image, message in (
        ({"type": "base64", "value": "A" * 1_000_000}, "Could not load input image. Cause: Data is not image."),
        ({"type": "base64", "value": "é" * 1_000_000}, malformed),
        ({"type": "base64", "value": "\n" * 1_000_000}, "Could not load input image. Cause: Empty image payload."),
        ({"type": "url", "value": "https://a.b/" + "x" * 1_000_000}, invalid),
    ):
        answer = client.post(IMAGE, json={"image": [large, image]})
        assert (answer.status_code, answer.json()) == (400, {"message": message, "index": 1})


def test_many_long_texts_and_names(client: TestClient) -> None:
    texts = [f"{i} " + 'é \U0001f408 \\ "' * 2_000 for i in range(40)]
    rows = post(client, TEXT, {"text": texts})["embeddings"]
    assert rows == [post(client, TEXT, {"text": text})["embeddings"][0] for text in texts]
    assert len(post(client, OPENAI, {"input": texts})["data"]) == 40
    body = {"subject": "a", "subject_type": "text", "prompt": {text[:5_000]: text for text in texts}}
    assert list(post(client, COMPARE, body)["similarity"]) == [text[:5_000] for text in texts]
    body["prompt"] = {f"{i}" + "x" * 50_000: "a" for i in range(40)}
    answer = client.post(COMPARE, json=body)
    assert answer.json() == {"message": "The names in `prompt` have more than 524288 characters."}
    answer = client.post(TEXT, json={"text": "x" * 2_000_000})
    assert answer.json() == {"message": "A text is too long; at most 128000 characters are allowed."}


def test_a_large_document_without_long_strings(make_client: MakeClient) -> None:
    numbers = {"text": "a", "x": list(range(200_000))}
    answer = make_client().post(TEXT, json=numbers)
    assert answer.status_code == 413
    assert answer.json() == {"message": "Without its long strings, a JSON document may have 1048576 bytes."}
    # Servers that allow more texts allow longer documents.
    assert make_client(max_texts=5_000).post(TEXT, json=numbers).status_code == 200


@pytest.mark.parametrize("text", ["cat " * 8, "cat " * 400, 'cat "dog" ' * 20])
def test_as_many_texts_of_any_length_as_are_allowed(client: TestClient, text: str) -> None:
    texts = [f"{i} {text}" for i in range(2_048)]
    assert len(post(client, TEXT, {"text": texts})["embeddings"]) == 2_048
    assert len(post(client, OPENAI, {"input": texts})["data"]) == 2_048
    body = {"subject": "a", "subject_type": "text", "prompt": {text[:96]: text for text in texts}}
    assert list(post(client, COMPARE, body)["similarity"]) == [text[:96] for text in texts]


def test_the_key_in_a_large_body(make_client: MakeClient, large: dict[str, str]) -> None:
    client = make_client(api_keys="key")
    assert post(client, IMAGE, {"image": large, "api_key": "key"})
    for key in (None, "wrong", "k" * 1_000_000, ["key"]):
        assert client.post(IMAGE, json={"image": large, "api_key": key}).status_code == 401
    assert client.post(IMAGE, json={"x": [[]] * 500_000, "api_key": "key"}).status_code == 413


def test_the_variant_beside_a_large_image(make_client: MakeClient, large: dict[str, str]) -> None:
    client = make_client(FakeEncoder(fake_spec("A"), fake_spec("B")))
    answer = client.post(IMAGE, json={"image": large, "perception_encoder_version_id": "B"})
    assert answer.headers["x-model-id"] == "perception_encoder/B"
    answer = client.post(IMAGE, json={"image": large, "perception_encoder_version_id": "B" * 10_000})
    assert answer.status_code == 404
    assert len(answer.content) < 200
