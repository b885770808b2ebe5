"""Roboflow's three requests as forms. A form's fields mean what those of the JSON body mean.

A part that is repeated is a list. An image is a file, or a text that is a URL or base64.
"""

from typing import Any

from starlette.requests import Request

from gateway.errors import InvalidInput
from gateway.http.context import context_of
from gateway.http.decode_json import decode_fields
from gateway.http.form import read_form
from gateway.http.form_items import IMAGE_FIELD, IMAGE_NAMES, fields_of, images_among, is_file, sources_of, text_of
from gateway.http.roboflow_wire import (
    CompareFields,
    CompareRequest,
    EmbedImageFields,
    EmbedImageRequest,
    EmbedTextFields,
    EmbedTextRequest,
    is_text,
)
from gateway.images.sources import ImageSource


async def read_image_form(request: Request) -> tuple[EmbedImageFields, list[ImageSource]]:
    """Read a form of images.

    Raises:
        RequestValidationError: a field does not fit.
        InvalidInput: there is no image, or as for `read_form`.
        Unauthorized, HTTPException, ClientDisconnect, PayloadTooLarge, Overloaded: as for `read_form`.
    """
    max_items = context_of(request.app).max_images
    form = await read_form(request, IMAGE_NAMES, EmbedImageFields.__struct_fields__, max_items)
    images = images_among(form.items)
    if not images:
        if form.items:
            name = form.items[0].name
            raise InvalidInput(
                f"The form's part `{name}` is not an image file. Send image files in parts named `image`."
            )
        raise InvalidInput("The form has no part named `image`.")
    sources = await sources_of(images)
    fields = {**fields_of(request, form), IMAGE_FIELD: [{"type": ""}] * len(sources)}
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
    if prompts and all(is_file(part) for part in prompts):
        fields.setdefault("prompt_type", "image")
    fields |= _one_or_list("subject", ["" for _ in subjects]) | _one_or_list("prompt", ["" for _ in prompts])
    decoded = decode_fields(fields, CompareRequest, CompareFields, max_items)
    query: ImageSource | str
    if is_text("subject", decoded.subject_type, "image"):
        query = await text_of(request, subjects[0])
    else:
        (query,) = await sources_of(subjects)
    if is_text("prompt", decoded.prompt_type, "text"):
        return decoded, query, [await text_of(request, part) for part in prompts]
    return decoded, query, await sources_of(prompts)


def _one_or_list(name: str, values: list[str]) -> dict[str, Any]:
    return {name: values[0] if len(values) == 1 else values} if values else {}
