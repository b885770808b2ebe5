"""Zero-shot classification as a form. A part that is repeated is a list."""

from starlette.requests import Request

from gateway.errors import InvalidInput
from gateway.http.classify_wire import ClassifyFields, ClassifyRequest
from gateway.http.context import context_of
from gateway.http.decode_json import decode_fields
from gateway.http.form import read_form
from gateway.http.roboflow_form import OTHER_IMAGE_NAMES, fields_of, sources_of, text_of
from gateway.images.plain_image import is_image_file
from gateway.images.sources import ImageSource

_IMAGE = "image"
_TEXTS = ("classes", "template")


async def read_classify_form(request: Request) -> tuple[ClassifyFields, list[ImageSource]]:
    """Read a form of images, classes and templates.

    Raises:
        InvalidInput: there is no image, or as for `read_form`.
        RequestValidationError: a field does not fit.
        Unauthorized, HTTPException, ClientDisconnect, PayloadTooLarge, Overloaded: as for `read_form`.
    """
    context = context_of(request.app)
    max_items = max(context.max_images, context.max_texts)
    names = (_IMAGE, *OTHER_IMAGE_NAMES, *_TEXTS)
    form = await read_form(request, names, ClassifyFields.__struct_fields__, max_items)
    parts = [part for part in form.items if part.name not in _TEXTS]
    images = [part for part in parts if part.name == _IMAGE or is_image_file(part.data)]
    if not images:
        raise InvalidInput("The form has no image file in a part named `image`.")
    sources = sources_of(images)
    fields = {**fields_of(request, form), _IMAGE: [{"type": ""}] * len(sources)}
    for name in _TEXTS:
        texts = [await text_of(request, part) for part in form.items if part.name == name]
        if texts:
            fields[name] = texts
    return decode_fields(fields, ClassifyRequest, ClassifyFields, max_items), sources
