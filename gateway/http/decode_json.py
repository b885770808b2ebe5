"""Decode a JSON document into typed fields, in time that is bounded by its length, with FastAPI's errors.

The decoder skips unknown fields and stops at the first value of a wrong type, so that a hostile document never becomes
Python objects. Only small documents are parsed again, for what the incumbent accepts and for errors as it words them.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, Final, TypeVar

import msgspec
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from gateway.errors import too_many

# Python's own parser accepts NaN, lone surrogates and UTF-16. It takes 3 ms for 64 kB of empty lists.
_MAX_LENIENT_BYTES: Final = 64 * 2**10
# pydantic takes 6 ms for 16 kB, where each value has two errors.
_MAX_DETAILED_BYTES: Final = 16 * 2**10

UNPARSABLE: Final = "There was an error parsing the body"
_MISSING_BODY: Final = {"type": "missing", "loc": ("body",), "msg": "Field required", "input": None}
# The decoder's own errors: "Expected `str`, got `int` - at `$.text[0]`", "Object missing required field `text`".
_AT: Final = " - at `$"
_STEP: Final = re.compile(r"\.(\w+)|\[(\d+)\]")
_EXPECTED: Final = re.compile(r"Expected `([^`]+)`, got `(\w+)`")
_WORDS: Final = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "an integer",
    "object": "an object",
    "str": "a string",
}
_MISSING_FIELD: Final = re.compile(r"Object missing required field `(\w+)`")
_BYTE: Final = re.compile(r"\(byte (\d+)\)")


class WireStruct(msgspec.Struct, gc=False):
    """Fields of a JSON body. `__post_init__` refuses by a `ValueError` what the types cannot."""

    @classmethod
    def explain(cls, location: Sequence[str | int], found: str) -> None:
        """Raise an `InvalidInput` for a value of a wrong type, where more can be said than its type.

        Args:
            location: of the value: names of fields, and indices.
            found: the value's type: `array`, `bool`, `float`, `int`, `null`, `object` or `str`.
        """


_decoders: dict[type, msgspec.json.Decoder[Any]] = {}


class _Keyed(msgspec.Struct):
    api_key: str | None = None


_Wire = TypeVar("_Wire", bound=BaseModel)
_Struct = TypeVar("_Struct", bound=WireStruct)
_Any = TypeVar("_Any", bound=msgspec.Struct)


def decode_key(document: bytes | bytearray) -> str | None:
    """The field `api_key` of a document, without building the rest; None if there is none."""
    try:
        return _decoder(_Keyed).decode(document).api_key
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    if len(document) > _MAX_LENIENT_BYTES:
        return None
    try:
        key = json.loads(document)["api_key"]
    except (ValueError, RecursionError, LookupError, TypeError):
        return None
    return key if isinstance(key, str) else None


def decode_json(
    document: bytes | bytearray, wire: type[_Wire] | None, struct: type[_Struct], max_items: int
) -> _Struct:
    """Decode the fields of `struct`.

    Args:
        wire: the model that words the errors of small documents. None: the words are this module's, as for large ones.
        max_items: of each list.

    Raises:
        InvalidInput: a list is too long, or `struct` explains a misfit.
        RequestValidationError: the document is not JSON, or not an object of the form of `struct` and `wire`.
        HTTPException: 400, the bytes cannot be read as text, or they are nested too deeply.
    """
    if not document:
        raise RequestValidationError([_MISSING_BODY])
    try:
        fields = _decoder(struct).decode(document)
    except msgspec.DecodeError as error:
        _explain(error, struct)
        if len(document) > _MAX_LENIENT_BYTES:
            raise _brief(error) from None
    except (UnicodeDecodeError, RecursionError):
        raise HTTPException(400, UNPARSABLE) from None
    else:
        _check_lengths(msgspec.structs.asdict(fields), max_items)
        return fields
    value = _loads(document)
    if isinstance(value, dict):
        _check_lengths({name: value.get(name) for name in struct.__struct_fields__}, max_items)
    return _convert(value, wire, struct, detailed=len(document) <= _MAX_DETAILED_BYTES)


def decode_fields(fields: dict[str, Any], wire: type[_Wire], struct: type[_Struct], max_items: int) -> _Struct:
    """Decode the fields of a form as those of a JSON object. Raises the errors of `decode_json`."""
    _check_lengths(fields, max_items)
    return _convert(fields, wire, struct, detailed=True)


def not_json(start: bytes) -> RequestValidationError:
    """The error for a body that begins so, and is not JSON by its media type. The incumbent reads it as a string."""
    entry = {
        "type": "model_attributes_type",
        "loc": ("body",),
        "msg": "Input should be a valid dictionary or object to extract fields from",
        "input": start.decode("latin-1"),
    }
    return RequestValidationError([entry if start else _MISSING_BODY])


def _decoder(struct: type[_Any]) -> msgspec.json.Decoder[_Any]:
    if (decoder := _decoders.get(struct)) is None:
        # Not strict, as pydantic: numbers and booleans may be strings.
        decoder = _decoders[struct] = msgspec.json.Decoder(struct, strict=False)
    return decoder


def _convert(value: Any, wire: type[_Wire] | None, struct: type[_Struct], detailed: bool) -> _Struct:
    """Convert a parsed value to `struct`. If `detailed`, `wire` decides about a misfit, and words the errors."""
    try:
        return msgspec.convert(value, struct, strict=False)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:  # The latter for a surrogate that is no string.
        if wire is None or not detailed:
            raise _brief(error) from None
    try:
        # `from_attributes` gives FastAPI's error types: `model_attributes_type` for a value that is not an object.
        model = wire.model_validate(value, from_attributes=True)
    except ValidationError as error:
        if value is None:
            raise RequestValidationError([_MISSING_BODY]) from None
        entries = error.errors(include_url=False)
        raise RequestValidationError([{**entry, "loc": ("body", *entry["loc"])} for entry in entries]) from None
    try:
        return msgspec.convert(model.model_dump(exclude_unset=True), struct, strict=False)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        raise _brief(error) from None


def _loads(document: bytes | bytearray) -> Any:
    try:
        return json.loads(document)
    except json.JSONDecodeError as error:
        raise _json_invalid(error.pos, error.msg) from None
    except (ValueError, RecursionError):  # Not UTF-8, a number of thousands of digits, or a thousand brackets.
        raise HTTPException(400, UNPARSABLE) from None


def _check_lengths(fields: dict[str, Any], max_items: int) -> None:
    for name, value in fields.items():
        if isinstance(value, list | dict) and len(value) > max_items:
            if isinstance(value, dict) and "type" in value and "value" in value:
                continue  # An image, not named items.
            raise too_many("prompts" if name == "prompt" else "items", len(value), max_items)


def _brief(error: msgspec.DecodeError | UnicodeEncodeError) -> Exception:
    """The decoder's own error in FastAPI's form. It names the first misfit only."""
    if isinstance(error, UnicodeEncodeError):
        return HTTPException(400, UNPARSABLE)
    message = str(error)
    if not isinstance(error, msgspec.ValidationError):
        byte = _BYTE.search(message)
        return _json_invalid(int(byte[1]) if byte else 0, message)
    text, location = _located(message)
    kind, text = "invalid", text.replace("Invalid enum value", "Unknown value")
    if expected := _EXPECTED.fullmatch(text):
        text = f"Expected {' or '.join(map(_in_words, expected[1].split(' | ')))}, got {_in_words(expected[2])}"
    if missing := _MISSING_FIELD.fullmatch(text):
        kind, text, location = "missing", "Field required", [*location, missing[1]]
    return RequestValidationError([{"type": kind, "loc": ("body", *location), "msg": text}])


def _explain(error: msgspec.DecodeError, struct: type[WireStruct]) -> None:
    text, location = _located(str(error))
    if expected := _EXPECTED.fullmatch(text):
        struct.explain(location, expected[2])


def _located(message: str) -> tuple[str, list[str | int]]:
    """What the decoder says, and where."""
    # The message repeats unknown names of the document, of any length. A regular expression takes 0.1 µs a character.
    text, at, path = message.rpartition(_AT)
    return (text, [name or int(index) for name, index in _STEP.findall(path)]) if at else (message, [])


def _in_words(kind: str) -> str:
    return _WORDS.get(kind, kind)


def _json_invalid(position: int, message: str) -> RequestValidationError:
    entry = {
        "type": "json_invalid",
        "loc": ("body", position),
        "msg": "JSON decode error",
        "input": {},
        "ctx": {"error": message},
    }
    return RequestValidationError([entry])
