"""Requests that nobody should send, against the real stack: all are answered, none by a 5xx, and it serves on."""

import json
import random
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from deploy.bench.resilience.strategies import mutated
from tests.pictures import base64_image, flat

pytestmark = pytest.mark.triton

CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]

EMBED_IMAGE = "/perception_encoder/embed_image"
IMAGE = base64_image(flat((255, 0, 0)))
BODIES = {
    EMBED_IMAGE: {"image": IMAGE},
    "/perception_encoder/embed_text": {"text": ["a cat", "a dog"]},
    "/perception_encoder/compare": {"subject": IMAGE, "prompt": {"a": "a cat", "b": "a dog"}},
    "/v1/embeddings": {"input": ["a cat", {"image": IMAGE["value"]}]},
}
ODD: list[Any] = [
    None, True, 0, -1, 1e308, 10**400, "", " ", "a", "\x00", "\ud800", "../../etc/passwd", "https://127.0.0.1:1/x",
    "http://169.254.169.254/", "A" * 100_000, [], {}, [[]], [None], {"type": "base64"}, {"type": None, "value": None},
    {"type": "url", "value": "file:///etc/passwd"}, {"type": "numpy", "value": "gASVAAAA"}, IMAGE, [IMAGE] * 3,
]  # fmt: skip


@pytest.mark.parametrize("path", BODIES)
def test_mutated_bodies(client: httpx2.Client, path: str) -> None:
    rng = random.Random(path)
    for _ in range(120):
        content = json.dumps(mutated(BODIES[path], rng, ODD))
        answer = client.post(path, content=content)
        assert answer.status_code < 500, (content[:300], answer.text[:300])
        assert answer.headers["content-type"] == "application/json"
        assert len(answer.content) < 20_000
    assert client.post(path, json=BODIES[path]).status_code == 200


def test_damaged_images(client: httpx2.Client) -> None:
    rng = random.Random(7)
    original = flat((1, 2, 3), (64, 64))
    for _ in range(120):
        data = bytearray(original)
        for _ in range(rng.randint(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        answer = client.post(EMBED_IMAGE, content=bytes(data), headers={"content-type": "image/png"})
        assert answer.status_code in (200, 400), answer.text


def test_the_published_interface(base_url: str) -> None:
    """schemathesis makes requests from /openapi.json: no 5xx, and every answer is one that the document promises."""
    schema: Any = schemathesis.openapi.from_url(base_url + "/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) >= 10
    for operation in operations:

        @settings(
            max_examples=25, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
        )
        @given(case=operation.as_strategy())
        def answered_as_promised(case: Any) -> None:
            case.call_and_validate(checks=CHECKS)

        answered_as_promised()
