"""Requests that nobody should send, against the real stack: all are answered, none by a 5xx, and it serves on."""

import json
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

from deploy.bench.resilience import strategies
from tests.pictures import flat

pytestmark = pytest.mark.triton

CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]

EMBED_IMAGE = "/perception_encoder/embed_image"
EXAMPLES = settings(deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("path", strategies.bodies())
def test_altered_bodies(client: httpx2.Client, path: str) -> None:
    body = strategies.bodies()[path]

    @settings(EXAMPLES, max_examples=120)
    @given(strategies.altered(body))
    def gets_a_short_answer_in_json(value: object) -> None:
        answer = client.post(path, content=json.dumps(value))
        assert answer.status_code < 500, answer.text[:300]
        assert answer.headers["content-type"] == "application/json"
        assert len(answer.content) < 20_000

    gets_a_short_answer_in_json()
    assert client.post(path, json=body).status_code == 200


def test_damaged_images(client: httpx2.Client) -> None:
    original = flat((1, 2, 3), (64, 64))
    for seed in range(120):
        data = strategies.damage(original, seed)
        answer = client.post(EMBED_IMAGE, content=data, headers={"content-type": "image/png"})
        assert answer.status_code in (200, 400), answer.text


def test_the_published_interface(base_url: str) -> None:
    """schemathesis makes requests from /openapi.json: no 5xx, and every answer is one that the document promises."""
    schema: Any = schemathesis.openapi.from_url(base_url + "/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) >= 10
    for operation in operations:

        @settings(EXAMPLES, max_examples=25)
        @given(case=operation.as_strategy())
        def answered_as_promised(case: Any) -> None:
            case.call_and_validate(checks=CHECKS)

        answered_as_promised()
