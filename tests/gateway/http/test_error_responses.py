"""Every error of the tree has a response."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

import gateway.triton.errors  # noqa: F401  # has some of its own
from gateway.errors import GatewayError, InvalidImage, UnknownVariant
from tests.fakes import FakeEncoder
from tests.gateway.http.conftest import MakeClient
from tests.gateway.http.test_middleware import metric

TEXT = "/perception_encoder/embed_text"

ANSWERS = {
    "InvalidInput": (400, None),
    "InvalidImage": (400, None),
    "Unauthorized": (401, None),
    "UnknownVariant": (404, None),
    "PayloadTooLarge": (413, None),
    "Overloaded": (429, "1"),
    "ShareExceeded": (429, "1"),
    "TooManyFetches": (429, "1"),
    "EncoderFault": (502, None),
    "EncoderUnavailable": (503, "1"),
    "Unsent": (503, "1"),
    "Stopping": (503, "1"),
    "DeadlineExceeded": (504, None),
}


def leaves(kind: type[GatewayError]) -> Iterator[type[GatewayError]]:
    for child in kind.__subclasses__():
        if child.__module__.startswith("gateway.") and child.__name__ not in ("ClientError", "ServerError"):
            yield child
        yield from leaves(child)


def made(kind: type[GatewayError]) -> GatewayError:
    if kind is UnknownVariant:
        return UnknownVariant("x", [])
    return kind() if kind.__name__ == "Unauthorized" else kind("Something.")


def test_the_table_is_complete() -> None:
    assert {kind.__name__ for kind in leaves(GatewayError)} == set(ANSWERS)


@pytest.mark.parametrize("kind", list(leaves(GatewayError)), ids=lambda kind: kind.__name__)
def test_each_has_its_answer_in_both_shapes(make_client: MakeClient, kind: type[GatewayError]) -> None:
    error = made(kind)
    client: TestClient = make_client(FakeEncoder(error=error))
    for path, body in ((TEXT, {"text": "x"}), ("/v1/embeddings", {"input": "x"})):
        answer = client.post(path, json=body)
        assert (answer.status_code, answer.headers.get("retry-after")) == ANSWERS[kind.__name__]
        error_body = answer.json()["error"] if path.startswith("/v1/") else answer.json()
        assert error_body["message"] == str(error)
        assert "total;dur=" in answer.headers["server-timing"]
    assert metric(client, "pe_errors_total", error=kind.__name__) == 2


def test_an_image_is_named_by_its_index(make_client: MakeClient) -> None:
    client = make_client(FakeEncoder(error=InvalidImage("Broken.", 3)))
    assert client.post(TEXT, json={"text": ["x"] * 2}).json()["index"] == 3
