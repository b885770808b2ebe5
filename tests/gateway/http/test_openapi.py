"""/openapi.json is valid, complete and true."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from pydantic import SecretStr
from starlette.testclient import TestClient

from gateway import errors
from gateway.http.app import create_app
from gateway.http.error_responses import STATUS
from gateway.settings import Settings
from tests.fakes import FakeEncoder, FakeFetch, InlineDecoder
from tests.gateway.http.conftest import MakeClient


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The document, generated once: that takes a fifth of a second."""
    with TestClient(create_app(Settings(), FakeEncoder(), FakeFetch(), InlineDecoder())) as client:
        return client.get("/openapi.json").json()  # type: ignore[no-any-return]


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def errors_of(document: dict[str, Any], schema: dict[str, Any], value: Any) -> list[str]:
    whole = {**schema, "components": document["components"]}  # References point to the components.
    return [error.message for error in Draft202012Validator(whole).iter_errors(value)]


def test_it_is_valid(document: dict[str, Any]) -> None:
    validate(document)


def test_every_operation_says_what_it_does_and_what_it_answers(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        assert operation["summary"], name
        assert operation["description"], name
        assert operation["tags"], name
        for status, response in operation["responses"].items():
            assert response["description"], (name, status)
            for kind, content in response["content"].items():
                assert content["schema"], (name, status, kind)


def test_every_operation_has_a_summary_of_its_own_and_every_tag_is_described(document: dict[str, Any]) -> None:
    described = {tag["name"] for tag in document["tags"] if tag["description"]}
    for name, operation in operations(document):
        assert set(operation["tags"]) <= described, name
        of_the_function = (
            operation["operationId"].split("_perception_encoder")[0].split("_v1")[0].replace("_", " ").title()
        )
        assert operation["summary"] != of_the_function, name
        assert not operation["summary"].istitle(), f"{name}: FastAPI's own summary is the function's name"


def test_what_needs_a_key_is_locked_where_there_are_keys(
    document: dict[str, Any], make_client: MakeClient, tmp_path: Path
) -> None:
    assert "securitySchemes" not in document["components"]
    assert not any("security" in operation for _, operation in operations(document))
    (tmp_path / "keys").write_text("a-key\n")
    for keys in ({"api_keys": frozenset({SecretStr("a-key")})}, {"api_keys_file": tmp_path / "keys"}):
        for metrics_open in (True, False):
            client = make_client(**keys, metrics_open=metrics_open)
            locked = client.get("/openapi.json").json()
            validate(locked)
            for name, operation in operations(locked):
                method, path = name.split()
                refused = client.request(method, path).status_code == 401
                assert ("security" in operation) is refused, name


def test_every_field_has_a_description_and_an_example_that_fits(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert len(schemas) > 20
    for name, schema in schemas.items():
        for field, value in schema.get("properties", {}).items():
            where = f"{name}.{field}"
            assert value.get("description"), where
            requests = name.endswith(("Request", "Item", "Image"))
            assert value.get("examples") or not requests, where
            for example in value.get("examples", []):
                assert errors_of(document, value, example) == [], where


def test_every_error_has_an_example_of_its_own_form(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        if "requestBody" not in operation:
            continue
        promised = {int(status) for status in operation["responses"]}
        assert promised >= {200, 500, *STATUS.values()}, name
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                content = response["content"]["application/json"]
                assert errors_of(document, content["schema"], content["example"]) == [], (name, status)


def test_examples_are_of_the_form_that_they_are_examples_of(document: dict[str, Any]) -> None:
    count = 0
    for name, operation in operations(document):
        if "requestBody" in operation:
            content = operation["requestBody"]["content"]["application/json"]
            for example in content["examples"].values():
                assert errors_of(document, content["schema"], example["value"]) == [], name
                count += 1
    assert count >= 9


BAD: list[tuple[str, dict[str, Any], int]] = [
    ("/perception_encoder/embed_text", {"content": b"\xff{", "headers": {"content-type": "application/json"}}, 400),
    ("/perception_encoder/embed_text", {"json": {}}, 422),
    ("/perception_encoder/embed_text", {"json": {"text": "a", "perception_encoder_version_id": "x"}}, 404),
    ("/perception_encoder/embed_text", {"json": {"text": "a" * 5000}}, 413),
    ("/perception_encoder/embed_image", {"json": {"image": {"type": "base64", "value": "!"}}}, 400),
    (
        "/perception_encoder/compare",
        {"json": {"subject": "a", "prompt": "b"}, "headers": {"accept": "application/x-npy"}},
        406,
    ),
    ("/v1/embeddings", {"json": {"input": []}}, 400),
    ("/v1/embeddings", {"json": {"input": "a", "model": "x"}}, 404),
]


@pytest.mark.parametrize(("path", "request_", "status"), BAD)
def test_errors_are_answered_as_promised(
    make_client: MakeClient, document: dict[str, Any], path: str, request_: dict[str, Any], status: int
) -> None:
    answer = make_client(max_body_bytes=4000).post(path, **request_)
    assert answer.status_code == status
    schema = document["paths"][path]["post"]["responses"][str(status)]["content"]["application/json"]["schema"]
    assert errors_of(document, schema, answer.json()) == []


@pytest.mark.parametrize("path", ["/perception_encoder/embed_text", "/v1/embeddings"])
@pytest.mark.parametrize("kind", [kind for kind, status in STATUS.items() if status >= 500], ids=lambda k: k.__name__)
def test_the_servers_own_errors_are_answered_as_promised(
    make_client: MakeClient, document: dict[str, Any], path: str, kind: type[errors.GatewayError]
) -> None:
    client = make_client(FakeEncoder(error=kind("It is so.")))
    answer = client.post(path, json={"text": "a"} if "text" in path else {"input": "a"})
    assert answer.status_code == STATUS[kind]
    responses = document["paths"][path]["post"]["responses"]
    schema = responses[str(answer.status_code)]["content"]["application/json"]["schema"]
    assert errors_of(document, schema, answer.json()) == []


@pytest.mark.parametrize("path", ["/healthz", "/readiness", "/info", "/model/registry", "/v1/models"])
def test_what_is_answered_is_what_is_promised(client: TestClient, document: dict[str, Any], path: str) -> None:
    schema = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    answer = client.get(path).json()
    assert errors_of(document, schema, answer) == []
    assert json.dumps(answer) != "{}"
