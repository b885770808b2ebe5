"""Zero-shot classification as a form. A part that is repeated is a list."""

from typing import Final

from starlette.requests import Request

from gateway.errors import InvalidInput
from gateway.http.classify_wire import ClassifyFields, ClassifyRequest
from gateway.http.context import context_of
from gateway.http.decode_json import decode_fields
from gateway.http.form import read_form
from gateway.http.form_items import IMAGE_FIELD, IMAGE_NAMES, fields_of, images_among, sources_of, text_of
from gateway.images.sources import ImageSource

_TEXTS: Final = ("classes", "template")


async def read_classify_form(request: Request) -> tuple[ClassifyFields, list[ImageSource]]:
    """Read a form of images, classes and templates.

    Raises:
        InvalidInput: there is no image, or as for `read_form`.
        RequestValidationError: a field does not fit.
        Unauthorized, HTTPException, ClientDisconnect, PayloadTooLarge, Overloaded: as for `read_form`.
    """
    context = context_of(request.app)
    max_items = max(context.max_images, context.max_texts)
    form = await read_form(request, (*IMAGE_NAMES, *_TEXTS), ClassifyFields.__struct_fields__, max_items)
    images = images_among(form.items)
    if not images:
        raise InvalidInput("The form has no image file in a part named `image`.")
    sources = await sources_of(images)
    fields = {**fields_of(request, form), IMAGE_FIELD: [{"type": ""}] * len(sources)}
    for name in _TEXTS:
        texts = [await text_of(request, part) for part in form.items if part.name == name]
        if texts:
            fields[name] = texts
    return decode_fields(fields, ClassifyRequest, ClassifyFields, max_items), sources
