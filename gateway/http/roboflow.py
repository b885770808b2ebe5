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
from gateway.http.body import read_bytes, read_json
from gateway.http.context import context_of
from gateway.http.dispatch import EndpointRoute
from gateway.http.form import MULTIPART, read_parts
from gateway.http.headers import media_type
from gateway.http.json_response import json_response
from gateway.http.long_strings import LongStrings
from gateway.http.negotiate import NPY, EncodingFormat, npy, require_json, rows, wants_npy
from gateway.http.openapi import ERRORS, NOT_ACCEPTABLE, body
from gateway.http.query import (
    DOCUMENTED_INCUMBENT_QUERY,
    DOCUMENTED_VARIANT,
    check_incumbent_query,
    variant_beside_body,
)
from gateway.http.record import record_of
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
)
from gateway.images.sources import EncodedImage, ImageSource, declared, item_indices, undeclared
from gateway.service import Embedded

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
    response_model=EmbeddingResponse,
    dependencies=[DOCUMENTED_VARIANT],
    openapi_extra=body(
        EmbedImageRequest,
        "image/*",
        MULTIPART,
        examples={
            "One image": {"image": IMAGE},
            "A list of images, embeddings in base64": {"image": [IMAGE, IMAGE], "encoding_format": "base64"},
        },
        answers=NPY,
    ),
)
async def embed_image(request: Request) -> Response:
    """Embed images: from JSON, from an image file as the body, or from form parts named `image`."""
    start = time.perf_counter()
    check_incumbent_query(request)
    variant: str | None
    encoding_format: EncodingFormat | None = None
    sources: list[ImageSource]
    if (kind := media_type(request.scope)).startswith("image/"):
        variant = variant_beside_body(request)
        sources = [EncodedImage(await read_bytes(request))]
    elif kind == MULTIPART:
        variant = variant_beside_body(request)
        sources = await read_parts(request, "image")
        if not sources:
            raise InvalidInput("The form has no part named `image`.")
    else:
        fields, strings = await read_json(request, EmbedImageRequest, EmbedImageFields)
        variant, encoding_format = fields.perception_encoder_version_id, fields.encoding_format
        sources = _sources(fields.image if isinstance(fields.image, list) else [fields.image], strings)
        if not sources:
            raise InvalidInput("The list of images is empty.")
    service = context_of(request.app).service
    spec = service.select(variant)
    embedded = await service.embed(spec, sources, record_of(request.scope).stages)
    return await _embeddings(request, start, spec, embedded, encoding_format)


@router.post(
    "/embed_text",
    response_model=EmbeddingResponse,
    openapi_extra=body(
        EmbedTextRequest,
        examples={"One text": {"text": "a red circle"}, "A list of texts": {"text": TEXTS}},
        answers=NPY,
    ),
)
async def embed_text(request: Request) -> Response:
    """Embed texts. `X-Truncated` lists the indices of texts that were longer than the model's context."""
    start = time.perf_counter()
    check_incumbent_query(request)
    fields, strings = await read_json(request, EmbedTextRequest, EmbedTextFields)
    service = context_of(request.app).service
    spec = service.select(fields.perception_encoder_version_id)
    texts = await strings.texts(fields.text if isinstance(fields.text, list) else [fields.text])
    embedded = await service.embed(spec, texts, record_of(request.scope).stages)
    return await _embeddings(request, start, spec, embedded, fields.encoding_format)


@router.post(
    "/compare",
    response_model=CompareResponse,
    responses=NOT_ACCEPTABLE,
    openapi_extra=body(
        CompareRequest,
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
    """Compare one image or text with others by cosine similarity.

    `X-Truncated` lists the texts that were longer than the model's context: `subject`, and indices of prompts.
    """
    start = time.perf_counter()
    check_incumbent_query(request)
    require_json(request)
    fields, strings = await read_json(request, CompareRequest, CompareFields)
    service = context_of(request.app).service
    spec = service.select(fields.perception_encoder_version_id)
    query = await _query(fields, strings)
    names, candidates = await _candidates(fields, strings)
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


def _source(image: ImageFields | str, strings: LongStrings, index: int | None = None) -> ImageSource:
    if isinstance(image, str):
        return undeclared(strings.payload(image), index)
    return declared(image.type, None if image.value is None else strings.payload(image.value), index)


def _sources(images: Sequence[ImageFields | str], strings: LongStrings) -> list[ImageSource]:
    return [_source(image, strings, index) for image, index in zip(images, item_indices(len(images)), strict=True)]


async def _query(fields: CompareFields, strings: LongStrings) -> ImageSource | str:
    if _is_text("subject", fields.subject_type, "image"):
        (text,) = await strings.texts([_text("subject", fields.subject)])
        return text
    return _source(fields.subject, strings)


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
    if _is_text("prompt", fields.prompt_type, "text"):
        return names, await strings.texts([_text("prompt", item) for item in items])
    if not items:
        # The incumbent answers an empty list of texts, and fails for an empty list of images.
        raise InvalidInput("There are no images in `prompt`.")
    return names, _sources(items, strings)


def _is_text(field: str, declared_type: str | None, default: str) -> bool:
    if declared_type is None:
        declared_type = default
    if declared_type not in ("image", "text"):
        raise InvalidInput(f"`{field}_type` must be `image` or `text`, not {declared_type[:64]!r}.")
    return declared_type == "text"


def _text(field: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidInput(f"`{field}` holds an image, but `{field}_type` is `text`.")
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
    return json_response(answer, headers=headers)
