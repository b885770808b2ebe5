"""The typed decoder accepts what the incumbent's models accept, and refuses the rest in bounded time."""

import json
import re
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from fastapi.exceptions import RequestValidationError
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from gateway.errors import InvalidInput
from gateway.http import openai
from gateway.http import roboflow_wire as roboflow
from gateway.http.decode_json import WireStruct, decode_json, decode_key

MODELS: list[tuple[type[BaseModel], type[WireStruct]]] = [
    (roboflow.EmbedImageRequest, roboflow.EmbedImageFields),
    (roboflow.EmbedTextRequest, roboflow.EmbedTextFields),
    (roboflow.CompareRequest, roboflow.CompareFields),
]
# Not "null", which the decoder reads as null where a number or a boolean is due.
ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, 1, -5, 2.5, 1e300, float("nan"), "", "a", "5", "true", "yes", "\ud800", [], {}, [[]], ["a", 1]]
)
NAMES = st.sampled_from(["type", "value", "a", "\ud800"])
IMAGES = st.fixed_dictionaries(
    {"type": st.sampled_from(["base64", "url"])}, optional={"value": st.sampled_from(["A", "B"]) | ODD, "x": ODD}
)
ITEMS = ODD | IMAGES | st.fixed_dictionaries({}, optional={"text": ODD, "image": ODD, "x": ODD})
INPUTS = (
    ITEMS
    | st.lists(st.sampled_from(["a", "b"]), max_size=3)
    | st.lists(IMAGES, max_size=3)
    | st.lists(ITEMS, max_size=3)
    | st.dictionaries(
        st.sampled_from(["type", "value", "a", "\ud800"]), st.sampled_from(["a", "b"]) | IMAGES, max_size=3
    )
    | st.dictionaries(st.sampled_from(["type", "value", "a"]), ITEMS, max_size=3)
)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("image", "text", "subject", "prompt", "input"), INPUTS),
        **{name: st.sampled_from(["a", "text"]) | ODD for name in ("subject_type", "id", "model", "source", "api_key")},
        "perception_encoder_version_id": ODD,
        "encoding_format": st.sampled_from(["float", "base64"]) | ODD,
        "dimensions": ODD,
        "usage_billable": ODD,
        "unknown": ODD,
    },
)


def with_fields(wire: type[BaseModel], body: dict[str, Any]) -> dict[str, Any]:
    """Most bodies that are drawn lack a required field."""
    required = {name: "a" for name, field in wire.model_fields.items() if field.is_required() and name != "image"}
    return {**required, **body}


@settings(max_examples=300)
@given(body=BODIES)
@example(body={"prompt": {"type": "x"}, "image": {"type": "x", "value": [1]}, "input": [{"text": "a"}]})
@example(body={"prompt": [{"type": "a"}, "b"], "image": {"type": "base64", "value": "A", "x": [1]}})
@example(body={"prompt": {"type": "base64", "value": "A", "x": [1]}})
@example(body={"prompt": {"type": "base64", "value": True}})
def test_the_models_decide_what_is_accepted(body: dict[str, Any]) -> None:
    for wire, struct in MODELS:
        value = with_fields(wire, body)
        document = json.dumps(value).encode()
        try:
            model = wire.model_validate(value)
        except ValidationError as error:
            with pytest.raises(RequestValidationError) as caught:
                decode_json(document, wire, struct, 64)
            expected = [("body", *entry["loc"]) for entry in error.errors()]
            assert [entry["loc"] for entry in caught.value.errors()] == expected
            continue
        fields = msgspec.to_builtins(decode_json(document, wire, struct, 64))
        dumped = model.model_dump(exclude_unset=True)
        for name in set(fields) & set(dumped):
            same(fields[name], dumped[name])


def same(decoded: Any, dumped: Any) -> None:
    """Compare, but for the defaults, which one of them leaves out, and the unknown fields of an image."""
    if isinstance(dumped, dict) and isinstance(decoded, dict):
        for key in set(decoded) & set(dumped):
            # The route refuses any other value of an image.
            if key != "value" or isinstance(decoded[key], str) or dumped[key] is not None:
                same(decoded[key], dumped[key])
    elif isinstance(dumped, list) and isinstance(decoded, list):
        for one, other in zip(decoded, dumped, strict=True):
            same(one, other)
    else:
        assert decoded == dumped


@settings(max_examples=300)
@example(body={"dimensions": "\ud800"})
@given(body=BODIES)
def test_openais_errors_name_the_field(body: dict[str, Any]) -> None:
    try:
        decode_json(json.dumps(body).encode(), None, openai.EmbeddingsFields, 64)
    except RequestValidationError as error:
        (entry,) = error.errors()
        assert entry["loc"][1] in openai.EmbeddingsFields.__struct_fields__
        assert not re.search("Fields|Union|UNSET|`(str|int|array)`", entry["msg"])
    except InvalidInput:
        assert body.keys() & {"input", "model", "encoding_format"}
    except HTTPException:
        assert re.search(r"\\ud[89a-f]", json.dumps(body))  # a lone surrogate, which is no text


def text_of(document: bytes, max_items: int = 64) -> list[str] | str:
    return decode_json(document, roboflow.EmbedTextRequest, roboflow.EmbedTextFields, max_items).text


@pytest.mark.parametrize(
    "document",
    [
        b'{"text": "b", "text": "a"}',
        b'{"text": "a", "x": NaN, "start": Infinity}',
        b'{"text": "a", "x": "\\ud800"}',
        b'\xef\xbb\xbf{"text": "a"}',
        '{"text": "a", "x": "é"}'.encode("utf-16"),
        '{"text": "a"}'.encode("utf-32"),
        b' {"te\\u0078t": "\\u0061"} \n',
        b'{"text": "a", "api_key": null, "perception_encoder_version_id": null}',
        b'{"text": "a", "usage_billable": "yes", "disable_model_monitoring": null}',
    ],
)
def test_what_the_incumbents_parser_accepts(document: bytes) -> None:
    assert text_of(document) == "a"


def no_document(loads: Callable[..., Any], size: int) -> Callable[..., Any]:
    def checked(document: bytes, *rest: Any, **options: Any) -> Any:
        assert len(document) <= size, "a large document was built"
        return loads(document, *rest, **options)

    return checked


@pytest.mark.parametrize(
    ("document", "location"),
    [
        (b'{"text":[' + b"1," * 100_000 + b"1]}", ("body", "text", 0)),
        (b'{"text":["a",' + b"[]," * 100_000 + b"1]}", ("body", "text", 1)),
        (b'{"x":[' + b"[]," * 100_000 + b"1]}", ("body", "text")),
        (b'{"text":"a","usage_billable":' + b" " * 100_000 + b"[]}", ("body", "usage_billable")),
        (b"[" + b"[]," * 100_000 + b"1]", ("body",)),
        (b'{"text":"a"' + b" " * 100_000, ("body", 0)),
        (b'{"text":"a"' + b" " * 100_000 + b"x}", ("body", 100_011)),
    ],
    ids=lambda value: str(value)[:30],
)
def test_large_documents_are_never_built(
    monkeypatch: pytest.MonkeyPatch, document: bytes, location: tuple[Any, ...]
) -> None:
    monkeypatch.setattr(json, "loads", no_document(json.loads, 64 * 2**10))
    with pytest.raises(RequestValidationError) as caught:
        text_of(document)
    (entry,) = caught.value.errors()
    assert entry["loc"] == location
    assert decode_key(document) is None


@pytest.mark.parametrize("count", [65, 5_000, 50_000])
def test_lengths_are_checked_before_items(count: int) -> None:
    for item in (b'"a"', b"1", b'{"type":"url"}', b"[]"):
        document = b'{"image":[' + b",".join([item] * count) + b"]}"
        if len(document) > 16 * 2**10 and item != b'{"type":"url"}':
            continue  # The first item is refused.
        with pytest.raises(InvalidInput, match=f"Too many items: {count} came, at most 64 are allowed"):
            decode_json(document, roboflow.EmbedImageRequest, roboflow.EmbedImageFields, 64)


@pytest.mark.parametrize("document", [b'{"text": "\xff"}', b'{"x":' + b"[" * 100_000, b'{"x":' + b"[" * 5_000])
def test_what_is_no_text_or_too_deep(document: bytes) -> None:
    with pytest.raises(HTTPException):
        text_of(document)
    assert decode_key(document) is None


@pytest.mark.parametrize(
    ("document", "key"),
    [
        (b'{"api_key": "k", "x": ' + b"[[]," * 200 + b"1" + b"]" * 200 + b"}", "k"),
        (b'{"api_key": "j", "api\\u005fkey": "k"}', "k"),
        (b'{"x": {"api_key": "k"}}', None),
        (b'{"api_key": ["k"]}', None),
        (b'{"api_key": "k", "x": NaN}', "k"),
        ('{"api_key": "k"}'.encode("utf-16"), "k"),
        (b'["api_key"]', None),
        (b'"api_key"', None),
        (b"null", None),
        (b"", None),
        (b'{"api_key": "k"', None),
    ],
)
def test_the_key_is_found_alone(document: bytes, key: str | None) -> None:
    assert decode_key(document) == key


@pytest.mark.parametrize("document", [b"{", b'{"a":1,}', b"01", b'"\x01"', b"{}\x00", b"tru"])
def test_invalid_json(document: bytes) -> None:
    with pytest.raises(RequestValidationError) as caught:
        text_of(document)
    assert caught.value.errors()[0]["type"] == "json_invalid"


@pytest.mark.parametrize("name", ["k" * 50_000_000, " - at `$.model`" + "k" * 50_000_000], ids=["long", "like a path"])
def test_an_error_about_a_long_name_is_located_at_once(name: str) -> None:
    start = time.process_time()
    with pytest.raises(RequestValidationError) as refused:
        decode_json(b'{"input":[{"text":"a","%b":1}]}' % name.encode(), None, openai.EmbeddingsFields, 8)
    assert time.process_time() - start < 2
    assert refused.value.errors()[0]["loc"] == ("body", "input", 0)
