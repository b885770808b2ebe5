"""Long lists of embeddings are sent in parts, and say the same as short ones."""

import asyncio
import base64
import json

import numpy as np
import pytest
from starlette.testclient import TestClient
from starlette.types import Message

from gateway.http.json_response import LongJsonResponse, LongList
from gateway.http.openapi import PICTURE
from tests.gateway.http.conftest import MakeClient

TEXTS = [f"text {index}" for index in range(150)]


@pytest.fixture
def client(make_client: MakeClient) -> TestClient:
    return make_client()


def floats(row: str | list[float]) -> list[float]:
    return list(np.frombuffer(base64.b64decode(row), "<f4")) if isinstance(row, str) else row


@pytest.mark.parametrize("encoding_format", ["float", "base64"])
def test_they_are_those_of_short_lists(client: TestClient, encoding_format: str) -> None:
    def of_roboflow(texts: list[str]) -> list[list[float]]:
        body = {"text": texts, "encoding_format": encoding_format}
        answer = client.post("/perception_encoder/embed_text", json=body)
        assert (answer.status_code, len(answer.content)) == (200, int(answer.headers["content-length"]))
        assert answer.json().keys() == {"inference_id", "frame_id", "time", "embeddings"}
        return [floats(row) for row in answer.json()["embeddings"]]

    def of_openai(texts: list[str]) -> list[list[float]]:
        answer = client.post("/v1/embeddings", json={"input": texts, "encoding_format": encoding_format})
        assert (answer.status_code, len(answer.content)) == (200, int(answer.headers["content-length"]))
        data = answer.json()["data"]
        assert [entry["index"] for entry in data] == list(range(len(texts)))
        assert {entry["object"] for entry in data} == {"embedding"}
        return [floats(entry["embedding"]) for entry in data]

    for embed in (of_roboflow, of_openai):
        alone = [embed(TEXTS[start : start + 50]) for start in range(0, 150, 50)]
        np.testing.assert_allclose(embed(TEXTS), np.concatenate(alone), rtol=1e-6)


async def test_each_group_is_a_message_of_its_own() -> None:
    items = LongList()
    items.extend([1, 2])
    items.extend([np.array([0.5], np.float32)])
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)
        await asyncio.sleep(0)

    response = LongJsonResponse({"a": "x", "list": items, "b": 1}, items)
    await response({}, None, send)  # type: ignore[arg-type]  # neither is used
    start, *bodies = sent
    assert [body["more_body"] for body in bodies] == [True, True, True, False]
    content = b"".join(body["body"] for body in bodies)
    assert json.loads(content) == {"a": "x", "list": [1, 2, [0.5]], "b": 1}
    assert dict(start["headers"])[b"content-length"] == str(len(content)).encode()


def test_responses_count_in_the_byte_budget(make_client: MakeClient) -> None:
    """A short request can ask for a long response, and not read it."""
    client = make_client(max_body_bytes=100_000, max_bytes_in_flight=100_000)
    path, body = "/perception_encoder/embed_text", {"text": ["a"] * 2_000}
    assert len(make_client().post(path, json=body).content) > 100_000
    for _ in range(3):  # What a request held, it gives back.
        assert client.post(path, json=body).status_code == 429
        assert client.post("/v1/embeddings", json={"input": body["text"]}).status_code == 429
        short = client.post(path, json={**body, "encoding_format": "base64"})
        assert (short.status_code, len(short.json()["embeddings"])) == (200, 2_000)
        assert client.post(path, json=body, headers={"accept": "application/x-npy"}).status_code == 200
    few = {"text": ["a"] * 400}
    assert client.post(path, json=few).status_code == 200


def test_array_files_count_in_the_byte_budget(make_client: MakeClient) -> None:
    client = make_client(max_body_bytes=60_000, max_bytes_in_flight=60_000)
    body = {"text": ["a"] * 2_000}
    headers = {"accept": "application/x-npy"}
    assert client.post("/perception_encoder/embed_text", json=body, headers=headers).status_code == 429


def test_predictions_count_in_the_byte_budget(make_client: MakeClient) -> None:
    """Each image repeats the names."""
    client = make_client(max_body_bytes=150_000, max_bytes_in_flight=150_000)
    name = "\0" * 9_000
    names = [f"{number}{name}" for number in range(2)]
    image = {"type": "base64", "value": PICTURE}
    body = {"image": [image], "classes": names}
    answer = client.post("/perception_encoder/classify", content=json.dumps(body, ensure_ascii=False))
    assert answer.status_code == 200
    assert len(answer.content) > 100_000
    three = {"image": [image] * 3, "classes": names}
    assert client.post("/perception_encoder/classify", content=json.dumps(three)).status_code == 429
