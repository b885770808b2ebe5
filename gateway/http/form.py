"""Read the images of a multipart form while it arrives. Its texts are UTF-8, whatever the client declares."""

import asyncio
from typing import TYPE_CHECKING, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, MultipartState, parse_options_header
from starlette.exceptions import HTTPException
from starlette.requests import Request

from gateway.errors import too_many
from gateway.http.body import PIECE_BYTES, chunks
from gateway.http.context import context_of
from gateway.http.headers import header
from gateway.images.sources import EncodedImage, ImageSource, item_indices, undeclared

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MULTIPART: Final = "multipart/form-data"

# Parts with other names than the one that is read. A browser sends one for each field of its form.
_MAX_OTHER_PARTS: Final = 64
# Delimiters that end no part. A file can contain them by chance, and the parser takes microseconds for each.
_MAX_STRAY_DELIMITERS: Final = 1000
# In one header. Names of files may have some, and each takes a microsecond.
_MAX_SEMICOLONS: Final = 32
# Longer texts are images in base64, and no URLs.
_MAX_URL_BYTES: Final = 64 * 2**10


async def read_parts(request: Request, name: str) -> list[ImageSource]:
    """Read the images of a multipart form.

    Args:
        name: of the parts to read. A part is a file, or a text that is a URL or base64.

    Returns:
        The images, in the order of the parts.

    Raises:
        HTTPException: 400, the body is not such a form, or a text is not UTF-8.
        InvalidInput: the form has too many parts.
        InvalidImage: a part is empty.
        ClientDisconnect, PayloadTooLarge, Overloaded: as for `chunks`.
    """
    max_images = context_of(request.app).max_images
    parts = _Parts(name.encode(), max_images)
    max_delimiters = max_images + _MAX_OTHER_PARTS + _MAX_STRAY_DELIMITERS
    try:
        options = _options(header(request.scope, b"content-type").encode("latin-1"))
        parser = MultipartParser(boundary := options.get(b"boundary", b""), parts.callbacks())
        if not boundary:
            raise FormParserError("no boundary")
        async for chunk in chunks(request):
            for start in range(0, len(chunk), PIECE_BYTES):
                piece = chunk[start : start + PIECE_BYTES]
                max_delimiters -= piece.count(parser.boundary)
                if max_delimiters < 0:
                    raise FormParserError("too many delimiters")
                parser.write(piece)
                if (
                    parser.state == MultipartState.BOUNDARY_PADDING
                ):  # Nobody pads, and each byte takes as long as a part.
                    raise FormParserError("padded delimiter")
                await asyncio.sleep(0)
        if parser.state != MultipartState.END:
            raise FormParserError("no last delimiter")
        return [_source(part, index) for part, index in zip(parts.found, item_indices(len(parts.found)), strict=True)]
    except (FormParserError, UnicodeDecodeError):
        raise HTTPException(400, "There was an error parsing the body") from None


def _source(part: "_Part", index: int | None) -> ImageSource:
    if part.is_file:
        return EncodedImage(part.data, index)
    return undeclared(part.data.decode() if len(part.data) <= _MAX_URL_BYTES else part.data, index)


def _options(value: bytes) -> dict[bytes, bytes]:
    """The parameters of a header, by their names in lower case."""
    if value.count(b";") > _MAX_SEMICOLONS:
        raise FormParserError("too many parameters")
    return parse_options_header(value)[1]


class _Part:
    def __init__(self) -> None:
        self.disposition = b""
        self.is_file = False
        self.is_wanted = False
        self.data = bytearray()


class _Parts:
    """Collects the parts of one name. The parser calls the methods in the order of the body.

    Attributes:
        found: the complete parts.
    """

    def __init__(self, name: bytes, max_parts: int) -> None:
        self._name = name
        self._max_parts = max_parts
        self._others = 0
        self._part = _Part()
        self._field = b""
        self._value = b""
        self.found: list[_Part] = []

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
            "on_part_end": self.on_part_end,
        }

    def on_part_begin(self) -> None:
        self._part = _Part()

    def on_header_begin(self) -> None:
        self._field = self._value = b""

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._part.disposition = self._value

    def on_headers_finished(self) -> None:
        options = _options(self._part.disposition)
        if (name := options.get(b"name")) is None:
            raise FormParserError("a part without a name")
        self._part.is_file = b"filename" in options
        self._part.is_wanted = name == self._name
        if not self._part.is_wanted:
            self._others += 1
            if self._others > _MAX_OTHER_PARTS:
                raise too_many("other parts", self._others, _MAX_OTHER_PARTS)
        elif len(self.found) == self._max_parts:
            raise too_many("items", self._max_parts + 1, self._max_parts)

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._part.is_wanted:
            self._part.data += memoryview(data)[start:end]

    def on_part_end(self) -> None:
        if self._part.is_wanted:
            self.found.append(self._part)
