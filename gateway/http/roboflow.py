"""Roboflow's three endpoints for Perception Encoder.

"Subject" and "prompt" are the incumbent's words. The service calls them query and candidates.
"""

import time
from collections.abc import Sequence
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.encoder import EncoderSpec
from gateway.errors import InvalidInput
from gateway.http.answer_headers import answer_headers
from gateway.http.body import authenticate, peek, read_bytes, read_json
from gateway.http.context import context_of
from gateway.http.dispatch import EndpointRoute
from gateway.http.form import has_form
from gateway.http.headers import MULTIPART, URLENCODED, media_type
from gateway.http.json_response import json_response
from gateway.http.long_strings import LongStrings
from gateway.http.negotiate import NPY, EncodingFormat, embeddings_response, npy, require_json, rows, wants_npy
from gateway.http.openapi import ERRORS, FILE, FILES, NOT_ACCEPTABLE, STRINGS, body
from gateway.http.query import (
    DOCUMENTED_INCUMBENT_QUERY,
    DOCUMENTED_VARIANT,
    check_incumbent_query,
    variant_beside_body,
)
from gateway.http.record import record_of
from gateway.http.roboflow_form import read_compare_form, read_image_form, read_text_form
from gateway.http.roboflow_wire import (
    IMAGE,
    TEXTS,
    CompareFields,
    CompareRequest,
    CompareResponse,
    EmbeddingResponse,
    EmbedImageFields,
    EmbedImageRequest,
    EmbedTextFields,
    EmbedTextRequest,
    ImageFields,
    is_image,
    is_text,
    not_text,
)
from gateway.http.wire_images import required_sources, source, sources
from gateway.images.formats import format_of
from gateway.images.plain_image import START_BYTES, is_image_file
from gateway.images.sources import EncodedImage, ImageSource
from gateway.service import Embedded

# What clients declare who do not know what a file is.
_OPAQUE: Final = ("application/octet-stream", "binary/octet-stream")
_NO_IMAGE_FILE: Final = (
    "The body is {kind}, and not an image file. Send an image file, a form with image files in parts named `image`, or "
    "JSON with `Content-Type: application/json`."
)
# The response repeats the names.
_MAX_NAME_CHARACTERS: Final = 512 * 2**10

# -- routes

router = APIRouter(
    prefix="/perception_encoder",
    tags=["Roboflow"],
    responses=ERRORS,
    dependencies=[DOCUMENTED_INCUMBENT_QUERY],
    route_class=EndpointRoute,
)


@router.post(
    "/embed_image",
    summary="Embed images",
    response_model=EmbeddingResponse,
    dependencies=[DOCUMENTED_VARIANT],
    openapi_extra=body(
        EmbedImageRequest,
        "image/*",
        "application/octet-stream",
        forms={MULTIPART: {"image": FILES}, URLENCODED: {"image": STRINGS}},
        examples={
            "One image": {"image": IMAGE},
            "A list of images, embeddings in base64": {"image": [IMAGE, IMAGE], "encoding_format": "base64"},
        },
        answers=NPY,
    ),
)
async def embed_image(request: Request) -> Response:
    """Send images in JSON, as an image file that is the body, or as a form's parts named `image`.

    The answer has one embedding of unit length for each image, in order. With `Accept: application/x-npy` it is one
    array file of float32 [N, D] for `numpy.load`. `Server-Timing` has the milliseconds of each stage.
    """
    check_incumbent_query(request)
    variant, encoding_format, images = await _images(request)
    start = time.perf_counter()
    service = context_of(request.app).service
    spec = service.select(variant)
    embedded = await service.embed(spec, images, record_of(request.scope).stages)
    return await _embeddings(request, start, spec, embedded, encoding_format)


@router.post(
    "/embed_text",
    summary="Embed texts",
    response_model=EmbeddingResponse,
    openapi_extra=body(
        EmbedTextRequest,
        forms={MULTIPART: {"text": STRINGS}, URLENCODED: {"text": STRINGS}},
        examples={"One text": {"text": "a red circle"}, "A list of texts": {"text": TEXTS}},
        answers=NPY,
    ),
)
async def embed_text(request: Request) -> Response:
    """Send one text or a list. The answer has one embedding of unit length for each text, in order.

    `X-Truncated` lists the indices of texts that were longer than the model's context. With
    `Accept: application/x-npy` the answer is one array file of float32 [N, D] for `numpy.load`.
    """
    check_incumbent_query(request)
    form, request = await has_form(request)
    if form:
        fields, texts = await read_text_form(request)
    else:
        fields, strings = await read_json(request, EmbedTextRequest, EmbedTextFields)
        texts = await strings.texts(fields.text if isinstance(fields.text, list) else [fields.text])
    start = time.perf_counter()
    service = context_of(request.app).service
    spec = service.select(fields.perception_encoder_version_id)
    embedded = await service.embed(spec, texts, record_of(request.scope).stages)
    return await _embeddings(request, start, spec, embedded, fields.encoding_format)


@router.post(
    "/compare",
    summary="Compare one image or text with others",
    response_model=CompareResponse,
    responses=NOT_ACCEPTABLE,
    openapi_extra=body(
        CompareRequest,
        forms={MULTIPART: {"subject": FILE, "prompt": FILES}, URLENCODED: {"prompt": STRINGS}},
        examples={
            "An image with texts": {"subject": IMAGE, "prompt": TEXTS},
            "Named texts": {"subject": IMAGE, "prompt": {"circle": "a red circle", "square": "a blue square"}},
            "A text with images": {
                "subject": "a red circle",
                "subject_type": "text",
                "prompt": [IMAGE],
                "prompt_type": "image",
            },
        },
    ),
)
async def compare(request: Request) -> Response:
    """The answer has the cosine similarity of `subject` to each `prompt`, in order, or by name if prompts are named.

    `X-Truncated` lists the texts that were longer than the model's context: `subject`, and indices of prompts.
    """
    check_incumbent_query(request)
    require_json(request)
    service = context_of(request.app).service
    form, request = await has_form(request)
    if form:
        fields, query, candidates = await read_compare_form(request)
        names = None
        spec = service.select(fields.perception_encoder_version_id)
    else:
        fields, strings = await read_json(request, CompareRequest, CompareFields)
        spec = service.select(fields.perception_encoder_version_id)
        query = await _query(fields, strings)
        names, candidates = await _candidates(fields, strings)
    start = time.perf_counter()
    compared = await service.compare(spec, query, candidates, record_of(request.scope).stages)
    similarities = compared.similarities
    truncated: list[int | str] = ["subject"] if compared.query_truncated else []
    truncated += compared.truncated
    answer = {
        "inference_id": None,
        "frame_id": None,
        "time": time.perf_counter() - start,
        "similarity": similarities if names is None else dict(zip(names, similarities, strict=True)),
        "parent_id": None,
    }
    return json_response(answer, headers=answer_headers(spec, truncated))


# -- conversion between wire models and the service


async def _images(request: Request) -> tuple[str | None, EncodingFormat | None, list[ImageSource]]:
    """The variant, the format of the embeddings, and the images of a body of any media type."""
    kind = media_type(request.scope)
    if kind.startswith("image/"):
        return variant_beside_body(request), None, [EncodedImage(await read_bytes(request))]
    if kind not in (MULTIPART, "application/json"):
        start, request = await peek(request, START_BYTES)
        # A format that is not read counts as well, because its error names it.
        if is_image_file(start) or (kind in _OPAQUE and format_of(start) is not None):
            authenticate(request, None)
            return variant_beside_body(request), None, [EncodedImage(await read_bytes(request))]
        if kind in _OPAQUE:
            raise InvalidInput(_NO_IMAGE_FILE.format(kind=kind))
    form, request = await has_form(request)
    if form:
        fields, found = await read_image_form(request)
    else:
        fields, strings = await read_json(request, EmbedImageRequest, EmbedImageFields)
        found = await required_sources(fields.image, strings)
    return fields.perception_encoder_version_id, fields.encoding_format, found


async def _query(fields: CompareFields, strings: LongStrings) -> ImageSource | str:
    if is_text("subject", fields.subject_type, "image"):
        (text,) = await strings.texts([_text("subject", fields.subject)])
        return text
    return await source(fields.subject, strings)


async def _candidates(
    fields: CompareFields, strings: LongStrings
) -> tuple[list[str] | None, list[ImageSource] | list[str]]:
    """The prompts, and their names if they are the values of an object."""
    prompt = fields.prompt
    names: list[str] | None = None
    items: Sequence[ImageFields | str]
    if isinstance(prompt, dict) and is_image(prompt):
        value = prompt["value"]
        items = [ImageFields(type=_text("type", prompt["type"]), value=value if isinstance(value, str) else None)]
    elif isinstance(prompt, dict):
        names = await strings.texts(list(prompt))
        if sum(map(len, names)) > _MAX_NAME_CHARACTERS:
            raise InvalidInput(f"The names in `prompt` have more than {_MAX_NAME_CHARACTERS} characters.")
        items = [item for item in prompt.values() if isinstance(item, ImageFields | str)]
    else:
        items = prompt if isinstance(prompt, list) else [prompt]
    if is_text("prompt", fields.prompt_type, "text"):
        return names, await strings.texts([_text("prompt", item) for item in items])
    if not items:
        # The incumbent answers an empty list of texts, and fails for an empty list of images.
        raise InvalidInput("There are no images in `prompt`.")
    return names, await sources(items, strings)


def _text(field: str, value: object) -> str:
    if not isinstance(value, str):
        raise not_text(field)
    return value


async def _embeddings(
    request: Request, start: float, spec: EncoderSpec, embedded: Embedded, encoding_format: EncodingFormat | None
) -> Response:
    headers = answer_headers(spec, embedded.truncated)
    if wants_npy(request):
        return Response(npy(embedded.embeddings), headers=headers, media_type=NPY)
    answer = {
        "inference_id": None,
        "frame_id": None,
        "time": time.perf_counter() - start,
        "embeddings": await rows(embedded.embeddings, encoding_format),
    }
    return embeddings_response("embeddings", answer, headers)
