"""Long lists of embeddings are sent in parts, and say the same as short ones."""

import asyncio
import base64
import json

import numpy as np
import pytest
from starlette.testclient import TestClient
from starlette.types import Message

from gateway.http.json_response import LongJsonResponse, LongList
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
