"""Roboflow's three requests as forms. A form's fields mean what those of the JSON body mean.

A part that is repeated is a list. An image is a file, or a text that is a URL or base64.
"""

import asyncio
from typing import Any, Final

from starlette.requests import Request

from gateway.errors import InvalidInput
from gateway.http.body import peek
from gateway.http.context import context_of
from gateway.http.decode_json import decode_fields
from gateway.http.form import Form, Part, read_form
from gateway.http.headers import MULTIPART, URLENCODED, media_type
from gateway.http.query import variant_beside_body
from gateway.http.roboflow_wire import (
    CompareFields,
    CompareRequest,
    EmbedImageFields,
    EmbedImageRequest,
    EmbedTextFields,
    EmbedTextRequest,
    is_text,
    not_text,
)
from gateway.images.plain_image import is_image_file
from gateway.images.sources import EncodedImage, ImageSource, item_indices, undeclared

_VARIANT: Final = "perception_encoder_version_id"
_IMAGE: Final = "image"
# What other interfaces call an image. Such parts count only if they are plainly images.
OTHER_IMAGE_NAMES: Final = ("images", "file", "files")
# Longer texts are images in base64, and no URLs.
_MAX_URL_BYTES: Final = 64 * 2**10
_BYTES_PER_CHARACTER: Final = 4
# curl declares whatever it sends with `-d` as a form. What begins so is JSON, and refused as such.
_JSON_STARTS: Final = (b"{", b"[", b'"')
_JSON_START_BYTES: Final = 64


async def has_form(request: Request) -> tuple[bool, Request]:
    """Whether the body is a form, and a request whose body is still whole."""
    kind = media_type(request.scope)
    if kind != URLENCODED:
        return kind == MULTIPART, request
    start, request = await peek(request, _JSON_START_BYTES)
    return bool(start) and not start.lstrip().startswith(_JSON_STARTS), request


async def read_image_form(request: Request) -> tuple[EmbedImageFields, list[ImageSource]]:
    """Read a form of images.

    Raises:
        RequestValidationError: a field does not fit.
        InvalidInput: there is no image, or as for `read_form`.
        Unauthorized, HTTPException, ClientDisconnect, PayloadTooLarge, Overloaded: as for `read_form`.
    """
    max_items = context_of(request.app).max_images
    form = await read_form(request, (_IMAGE, *OTHER_IMAGE_NAMES), EmbedImageFields.__struct_fields__, max_items)
    images = [part for part in form.items if part.name == _IMAGE or is_image_file(part.data)]
    if not images:
        if form.items:
            name = form.items[0].name
            raise InvalidInput(
                f"The form's part `{name}` is not an image file. Send image files in parts named `image`."
            )
        raise InvalidInput("The form has no part named `image`.")
    sources = sources_of(images)
    fields = {**fields_of(request, form), "image": [{"type": ""}] * len(sources)}
    return decode_fields(fields, EmbedImageRequest, EmbedImageFields, max_items), sources


async def read_text_form(request: Request) -> tuple[EmbedTextFields, list[str]]:
    """Read a form of texts. Raises the errors of `read_image_form`."""
    max_items = context_of(request.app).max_texts
    form = await read_form(request, ("text",), EmbedTextFields.__struct_fields__, max_items)
    texts = [await text_of(request, part) for part in form.items]
    fields = {**fields_of(request, form), **_one_or_list("text", texts)}
    return decode_fields(fields, EmbedTextRequest, EmbedTextFields, max_items), texts


async def read_compare_form(
    request: Request,
) -> tuple[CompareFields, ImageSource | str, list[ImageSource] | list[str]]:
    """Read a form of a subject and prompts.

    Prompts that are all files are images, even if `prompt_type` does not say so.

    Returns:
        The fields, the subject and the prompts.

    Raises:
        As `read_image_form`.
    """
    context = context_of(request.app)
    max_items = max(context.max_images, context.max_texts)
    form = await read_form(request, ("subject", "prompt"), CompareFields.__struct_fields__, max_items)
    subjects = [part for part in form.items if part.name == "subject"]
    prompts = [part for part in form.items if part.name == "prompt"]
    fields = fields_of(request, form)
    if prompts and all(_is_file(part) for part in prompts):
        fields.setdefault("prompt_type", "image")
    fields |= _one_or_list("subject", ["" for _ in subjects]) | _one_or_list("prompt", ["" for _ in prompts])
    decoded = decode_fields(fields, CompareRequest, CompareFields, max_items)
    query: ImageSource | str
    if is_text("subject", decoded.subject_type, "image"):
        query = await text_of(request, subjects[0])
    else:
        (query,) = sources_of(subjects)
    if is_text("prompt", decoded.prompt_type, "text"):
        return decoded, query, [await text_of(request, part) for part in prompts]
    return decoded, query, sources_of(prompts)


def fields_of(request: Request, form: Form) -> dict[str, Any]:
    """The fields of a form that are no items. Query and header name the variant where the form does not."""
    fields: dict[str, Any] = dict(form.fields)
    if _VARIANT not in fields:
        fields[_VARIANT] = variant_beside_body(request)
    return fields


def _one_or_list(name: str, values: list[str]) -> dict[str, Any]:
    return {name: values[0] if len(values) == 1 else values} if values else {}


def _is_file(part: Part) -> bool:
    return part.is_file or is_image_file(part.data)


def sources_of(parts: list[Part]) -> list[ImageSource]:
    """The images of parts."""
    return [_source(part, index) for part, index in zip(parts, item_indices(len(parts)), strict=True)]


def _source(part: Part, index: int | None) -> ImageSource:
    if _is_file(part):
        return EncodedImage(part.data, index)
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
