"""Read a form while it arrives: multipart or URL-encoded. Its texts are UTF-8, whatever the client declares."""

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, MultipartState, QuerystringParser, parse_options_header
from starlette.exceptions import HTTPException
from starlette.requests import Request

from gateway.errors import InvalidInput, too_many
from gateway.http.body import PIECE_BYTES, authenticate, chunks, peek
from gateway.http.decode_json import UNPARSABLE
from gateway.http.headers import MULTIPART, URLENCODED, header, media_type

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks, QuerystringCallbacks

# Parts that are no items. A browser sends one for each field of its form.
_MAX_OTHER_PARTS: Final = 64
# Delimiters that end no part. A file can contain them by chance, and the parser takes microseconds for each.
_MAX_STRAY_DELIMITERS: Final = 1000
# In one header. Names of files may have some, and the parser takes a microsecond for each.
_MAX_SEMICOLONS: Final = 32
_MAX_NAME_BYTES: Final = 256
# Of a field that is no item, such as a variant or a key.
_MAX_FIELD_BYTES: Final = 4 * 2**10
# `image[]` and `image[0]` are how PHP, axios and others name the items of a list.
_LIST_NAME: Final = re.compile(r"(.*)\[\d{0,4}\]", re.DOTALL)
_HEX: Final = "0123456789abcdefABCDEF"
_ESCAPES: Final = {f"%{high}{low}".encode(): bytes.fromhex(high + low) for high in _HEX for low in _HEX}
_ESCAPE: Final = re.compile(rb"%[0-9a-fA-F]{2}")
# curl declares whatever it sends with `-d` as a form. What begins so is JSON, and refused as such.
_JSON_STARTS: Final = (b"{", b"[", b'"')
_JSON_START_BYTES: Final = 64

# A malformed form is no event of the server.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


@dataclass(slots=True)
class Part:
    """An item of a form: an image or a text.

    Attributes:
        name: without the brackets of a list.
        is_file: whether the part has the name of a file.
    """

    name: str
    is_file: bool
    data: bytearray = field(default_factory=bytearray)

    def text(self) -> str:
        """The data as text.

        Raises:
            HTTPException: 400, it is not UTF-8.
        """
        try:
            return self.data.decode()
        except UnicodeDecodeError:
            raise HTTPException(400, UNPARSABLE) from None


@dataclass(slots=True)
class Form:
    """The parts of a form that were asked for.

    Attributes:
        items: in the order of the form.
        fields: the other fields that are not empty. Of several with one name, the last one.
    """

    items: list[Part] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)


async def has_form(request: Request) -> tuple[bool, Request]:
    """Whether the body is a form, and a request whose body is still whole."""
    kind = media_type(request.scope)
    if kind != URLENCODED:
        return kind == MULTIPART, request
    start, request = await peek(request, _JSON_START_BYTES)
    return bool(start) and not start.lstrip().startswith(_JSON_STARTS), request


async def read_form(request: Request, items: Collection[str], fields: Collection[str], max_items: int) -> Form:
    """Read a form, and authenticate the request if its key has to be in the form.

    Args:
        items: names of the parts that are images or texts. There may be several of a name.
        fields: names of the other parts to read.
        max_items: of one name.

    Raises:
        Unauthorized: the key has to be in the form, and is missing or wrong. Only clients with a key learn what else is
            wrong with the form.
        HTTPException: 400, the body is not such a form, or a field is not UTF-8.
        InvalidInput: the form has too many parts, or a field is too long.
        ClientDisconnect, PayloadTooLarge, Overloaded: as for `chunks`.
    """
    collector = _Collector(items, fields, max_items)
    problem: Exception | None = None
    read = _read_multipart if media_type(request.scope) == MULTIPART else _read_urlencoded
    try:
        await read(request, collector, max_items + _MAX_OTHER_PARTS + _MAX_STRAY_DELIMITERS)
    except (FormParserError, UnicodeDecodeError):
        problem = HTTPException(400, UNPARSABLE)
    except InvalidInput as error:
        problem = error
    authenticate(request, collector.form.fields.get("api_key"))
    if problem is not None:
        raise problem
    return collector.form


async def _read_multipart(request: Request, collector: "_Collector", max_delimiters: int) -> None:
    options = _options(header(request.scope, b"content-type").encode("latin-1"))
    parser = MultipartParser(boundary := options.get(b"boundary", b""), _Multipart(collector).callbacks())
    if not boundary:
        raise FormParserError("no boundary")
    async for chunk in chunks(request):
        for start in range(0, len(chunk), PIECE_BYTES):
            piece = chunk[start : start + PIECE_BYTES]
            max_delimiters -= piece.count(parser.boundary)
            if max_delimiters < 0:
                raise FormParserError("too many delimiters")
            parser.write(piece)
            # No client pads, and each byte costs as much as a part.
            if parser.state == MultipartState.BOUNDARY_PADDING:
                raise FormParserError("padded delimiter")
            await asyncio.sleep(0)
    if parser.state != MultipartState.END:
        raise FormParserError("no last delimiter")


async def _read_urlencoded(request: Request, collector: "_Collector", max_delimiters: int) -> None:
    parser = QuerystringParser(_Urlencoded(collector).callbacks())
    async for chunk in chunks(request):
        for start in range(0, len(chunk), PIECE_BYTES):
            piece = chunk[start : start + PIECE_BYTES]
            max_delimiters -= piece.count(b"&")
            if max_delimiters < 0:
                raise FormParserError("too many delimiters")
            parser.write(piece)
            await asyncio.sleep(0)
    parser.finalize()


def _options(value: bytes) -> dict[bytes, bytes]:
    """The parameters of a header, by their names in lower case."""
    if value.count(b";") > _MAX_SEMICOLONS:
        raise FormParserError("too many parameters")
    return parse_options_header(value)[1]


def _unescaped(data: bytes) -> bytes:
    """Undo URL encoding. Python's own function takes six times as long for percent signs that begin no escape."""
    return _ESCAPE.sub(lambda match: _ESCAPES[match[0]], data) if b"%" in data else data


class _Collector:
    """Collects the parts of a form, which come one after the other.

    Attributes:
        form: the complete parts.
    """

    def __init__(self, items: Collection[str], fields: Collection[str], max_items: int) -> None:
        self._items = items
        self._fields = fields
        self._max_items = max_items
        self._counts: Counter[str] = Counter()
        self._others = 0
        self._part: Part | None = None
        self.form = Form()

    def begin(self, name: bytes, is_file: bool) -> None:
        """Begin a part."""
        text = name.decode(errors="replace")
        listed = _LIST_NAME.fullmatch(text)
        text = listed[1] if listed else text
        self._part = Part(text, is_file) if text in self._items or text in self._fields else None
        if text in self._items:
            self._counts[text] += 1
            if self._counts[text] > self._max_items:
                raise too_many("items", self._counts[text], self._max_items)
        else:
            self._others += 1
            if self._others > _MAX_OTHER_PARTS:
                raise too_many("other parts", self._others, _MAX_OTHER_PARTS)

    def data(self, data: bytes | memoryview) -> None:
        """Take more of the part's data."""
        if (part := self._part) is not None:
            part.data += data
            if part.name not in self._items and len(part.data) > _MAX_FIELD_BYTES:
                raise InvalidInput(f"The form's field `{part.name}` has more than {_MAX_FIELD_BYTES} bytes.")

    def end(self) -> None:
        """End the part."""
        if (part := self._part) is None:
            return
        self._part = None
        if part.name in self._items:
            self.form.items.append(part)
        elif part.data:
            self.form.fields[part.name] = part.data.decode()


class _Multipart:
    """Passes the parts of a multipart form on. The parser calls the methods in the order of the body."""

    def __init__(self, collector: _Collector) -> None:
        self._collector = collector
        self._disposition = self._field = self._value = b""

    def callbacks(self) -> "MultipartCallbacks":
        """The methods that the parser calls."""
        return {
            "on_part_begin": self.on_part_begin,
            "on_header_begin": self.on_header_begin,
            "on_header_field": self.on_header_field,
            "on_header_value": self.on_header_value,
            "on_header_end": self.on_header_end,
            "on_headers_finished": self.on_headers_finished,
            "on_part_data": self.on_part_data,
            "on_part_end": self._collector.end,
        }

    def on_part_begin(self) -> None:
        self._disposition = b""

    def on_header_begin(self) -> None:
        self._field = self._value = b""

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value

    def on_headers_finished(self) -> None:
        options = _options(self._disposition)
        if (name := options.get(b"name")) is None:
            raise FormParserError("a part without a name")
        self._collector.begin(name[:_MAX_NAME_BYTES], b"filename" in options)

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._collector.data(memoryview(data)[start:end])


class _Urlencoded:
    """Passes the fields of a URL-encoded form on, without their escapes."""

    def __init__(self, collector: _Collector) -> None:
        self._collector = collector
        self._name = b""
        self._in_value = False
        self._held = b""  # the start of an escape

    def callbacks(self) -> "QuerystringCallbacks":
        """The methods that the parser calls."""
        return {
            "on_field_start": self.on_field_start,
            "on_field_name": self.on_field_name,
            "on_field_data": self.on_field_data,
            "on_field_end": self.on_field_end,
        }

    def on_field_start(self) -> None:
        self._name, self._in_value = b"", False

    def on_field_name(self, data: bytes, start: int, end: int) -> None:
        self._name = (self._name + data[start : min(end, start + _MAX_NAME_BYTES)])[:_MAX_NAME_BYTES]

    def on_field_data(self, data: bytes, start: int, end: int) -> None:
        self._begin()
        text = self._held + data[start:end].replace(b"+", b" ")
        escape = text.rfind(b"%", max(0, len(text) - 2))
        text, self._held = (text, b"") if escape < 0 else (text[:escape], text[escape:])
        self._collector.data(_unescaped(text))

    def on_field_end(self) -> None:
        self._begin()
        self._collector.data(self._held)
        self._collector.end()
        self._held = b""

    def _begin(self) -> None:
        if not self._in_value:
            self._collector.begin(_unescaped(self._name.replace(b"+", b" ")), is_file=False)
            self._in_value = True
