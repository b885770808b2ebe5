"""From the parts of a form to images, texts and fields.

A part that is repeated is a list. An image is a file, or a text that is a URL or base64.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from starlette.requests import Request

from gateway.errors import InvalidInput
from gateway.http.context import context_of
from gateway.http.form import Form, Part
from gateway.http.query import variant_beside_body
from gateway.http.roboflow_wire import not_text
from gateway.images.plain_image import is_image_file
from gateway.images.sources import EncodedImage, ImageSource, item_indices, undeclared

IMAGE_FIELD: Final = "image"
IMAGE_NAMES: Final = (IMAGE_FIELD, "images", "file", "files")
"""Names of parts with images. The names after the first are those of other interfaces."""

_VARIANT: Final = "perception_encoder_version_id"
# Longer texts are images in base64, and no URLs.
_MAX_URL_BYTES: Final = 64 * 2**10
_BYTES_PER_CHARACTER: Final = 4


def fields_of(request: Request, form: Form) -> dict[str, Any]:
    """The fields of a form that are no items. Query and header name the variant where the form does not."""
    fields: dict[str, Any] = dict(form.fields)
    if _VARIANT not in fields:
        fields[_VARIANT] = variant_beside_body(request)
    return fields


def images_among(parts: Sequence[Part]) -> list[Part]:
    """The parts that are images. With a name of another interface, a part counts only if it is plainly an image."""
    return [
        part for part in parts if part.name == IMAGE_FIELD or (part.name in IMAGE_NAMES and is_image_file(part.data))
    ]


def is_file(part: Part) -> bool:
    """Whether a part is a file, as its head or its data says."""
    return part.is_file or is_image_file(part.data)


async def sources_of(parts: Sequence[Part]) -> list[ImageSource]:
    """The images of parts. Other callbacks run between them: a form may have a thousand."""
    return [await _source(part, index) for part, index in zip(parts, item_indices(len(parts)), strict=True)]


async def _source(part: Part, index: int | None) -> ImageSource:
    if is_file(part):
        return EncodedImage(part.data, index)
    await asyncio.sleep(0)
    return undeclared(part.text() if len(part.data) <= _MAX_URL_BYTES else part.data, index)


async def text_of(request: Request, part: Part) -> str:
    """The text of a part.

    Raises:
        InvalidInput: it is too long, or an image.
        HTTPException: 400, it is not UTF-8.
    """
    if is_image_file(part.data):
        raise not_text(part.name)
    max_characters = context_of(request.app).max_text_characters
    if len(part.data) > max_characters * _BYTES_PER_CHARACTER:
        raise InvalidInput(f"A text is too long; at most {max_characters} characters are allowed.")
    await asyncio.sleep(0)
    return part.text()
