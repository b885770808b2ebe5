"""Roboflow's three endpoints for Perception Encoder, and their wire models.

Field names, defaults and the order of the responses' keys are the incumbent's: roboflow/inference,
inference/core/entities/{requests,responses}/perception_encoder.py. "Subject" and "prompt" are the incumbent's words.
The service calls them query and candidates.
"""

import time
from collections.abc import Sequence
from typing import Any, Final

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from gateway.encoder import EncoderSpec
from gateway.errors import InvalidInput
from gateway.http.body import MULTIPART, read_bytes, read_json, read_parts
from gateway.http.context import context_of
from gateway.http.dispatch import EndpointRoute
from gateway.http.headers import media_type
from gateway.http.json_response import json_response
from gateway.http.negotiate import NPY, EncodingFormat, npy, require_json, rows, wants_npy
from gateway.http.openapi import ERRORS, NOT_ACCEPTABLE, PICTURE, body
from gateway.http.query import (
    DOCUMENTED_INCUMBENT_QUERY,
    DOCUMENTED_VARIANT,
    check_incumbent_query,
    variant_beside_body,
)
from gateway.http.record import record_of
from gateway.images.sources import EncodedImage, ImageSource, declared, item_indices, undeclared
from gateway.service import Embedded

# -- wire models of requests


class InferenceRequestImage(BaseModel):
    """One image: `{"type": "base64", "value": "..."}` or `{"type": "url", "value": "https://..."}`."""

    type: str = Field(description="`base64`, `url`, or `numpy` where the server allows it.", examples=["base64"])
    value: Any = Field(None, description="The image file in base64, or its URL.", examples=[PICTURE])


_ENCODING_FORMAT: Final = "`base64`: each embedding as little-endian float32 in base64, a fifth of the size of numbers."


class _Request(BaseModel):
    """Fields of all three requests. The incumbent's clients send the ignored ones."""

    perception_encoder_version_id: str | None = Field(
        None,
        description="The variant, such as `PE-Core-L14-336`. Default: the server's.",
        examples=[None],
    )
    model_id: str | None = Field(None, description="Ignored, as the incumbent does.", examples=[None])
    id: str = Field("", description="Ignored.", examples=[""])
    api_key: str | None = Field(
        None, description="A key of this server; ignored if the server has none.", examples=[None]
    )
    usage_billable: bool = Field(True, description="Ignored.", examples=[True])
    start: float | None = Field(None, description="Ignored.", examples=[None])
    source: str | None = Field(None, description="Ignored.", examples=[None])
    source_info: str | None = Field(None, description="Ignored.", examples=[None])
    disable_model_monitoring: bool | None = Field(False, description="Ignored.", examples=[False])
    stream_pipeline_context_id: str | None = Field(None, description="Ignored.", examples=[None])


_IMAGE: Final = {"type": "base64", "value": PICTURE}
_TEXTS: Final = ["a red circle", "a blue square"]


class EmbedImageRequest(_Request):
    """Images to embed."""

    image: list[InferenceRequestImage] | InferenceRequestImage = Field(
        description="One image or a list of them.", examples=[_IMAGE, [_IMAGE, _IMAGE]]
    )
    encoding_format: EncodingFormat = Field("float", description=_ENCODING_FORMAT, examples=["float", "base64"])


class EmbedTextRequest(_Request):
    """Texts to embed."""

    text: list[str] | str = Field(description="One text or a list of them.", examples=["a red circle", _TEXTS])
    encoding_format: EncodingFormat = Field("float", description=_ENCODING_FORMAT, examples=["float", "base64"])


class CompareRequest(_Request):
    """One subject, and the prompts to compare it with."""

    subject: InferenceRequestImage | str = Field(
        description="The item to compare: an image or a text.", examples=[_IMAGE]
    )
    subject_type: str = Field("image", description="`image` or `text`.", examples=["image"])
    prompt: (
        list[InferenceRequestImage] | InferenceRequestImage | str | list[str] | dict[str, InferenceRequestImage | str]
    ) = Field(
        description="The items to compare the subject with: one, a list, or an object of named ones.",
        examples=["a red circle", _TEXTS, {"circle": "a red circle", "square": "a blue square"}],
    )
    prompt_type: str = Field("text", description="`text` or `image`.", examples=["text"])


# -- wire models of responses: only for the documentation, because responses are serialised from arrays

_ALWAYS_NULL: Final = "Null, as the incumbent's."


class EmbeddingResponse(BaseModel):
    """N embeddings [N, D], unit length."""

    inference_id: str | None = Field(None, description=_ALWAYS_NULL, examples=[None])
    frame_id: int | None = Field(None, description=_ALWAYS_NULL, examples=[None])
    time: float = Field(description="Seconds the server took.", examples=[0.0052])
    embeddings: list[list[float]] | list[str] = Field(
        description="One unit-length embedding for each item, in order: numbers, or base64 if that was requested.",
        examples=[[[0.6, -0.8]], ["mpkZP83MTL8="]],
    )


class CompareResponse(BaseModel):
    """Raw cosines, unscaled: at most 1, or 1.0000001 by rounding."""

    inference_id: str | None = Field(None, description=_ALWAYS_NULL, examples=[None])
    frame_id: int | None = Field(None, description=_ALWAYS_NULL, examples=[None])
    time: float = Field(description="Seconds the server took.", examples=[0.0052])
    similarity: list[float] | dict[str, float] = Field(
        description="Cosine similarity to each prompt: a list in their order, or an object with their names.",
        examples=[[0.4, -0.15], {"circle": 0.4, "square": -0.15}],
    )
    parent_id: str | None = Field(None, description=_ALWAYS_NULL, examples=[None])


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
            "One image": {"image": _IMAGE},
            "A list of images, embeddings in base64": {"image": [_IMAGE, _IMAGE], "encoding_format": "base64"},
        },
        answers=NPY,
    ),
)
async def embed_image(request: Request) -> Response:
    """Embed images: from JSON, from an image file as the body, or from form parts named `image`."""
    start = time.perf_counter()
    check_incumbent_query(request)
    variant: str | None
    encoding_format: EncodingFormat = "float"
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
        wire = await read_json(request, EmbedImageRequest)
        variant, encoding_format = wire.perception_encoder_version_id, wire.encoding_format
        sources = _sources(wire.image if isinstance(wire.image, list) else [wire.image])
        if not sources:
            raise InvalidInput("The list of images is empty.")
    service = context_of(request.app).service
    spec = service.select(variant)
    embedded = await service.embed(spec, sources, record_of(request.scope).stages)
    return _embeddings(request, start, spec, embedded, encoding_format)


@router.post(
    "/embed_text",
    response_model=EmbeddingResponse,
    openapi_extra=body(
        EmbedTextRequest,
        examples={"One text": {"text": "a red circle"}, "A list of texts": {"text": _TEXTS}},
        answers=NPY,
    ),
)
async def embed_text(request: Request) -> Response:
    """Embed texts. `X-Truncated` lists the indices of texts that were longer than the model's context."""
    start = time.perf_counter()
    check_incumbent_query(request)
    wire = await read_json(request, EmbedTextRequest)
    service = context_of(request.app).service
    spec = service.select(wire.perception_encoder_version_id)
    texts = wire.text if isinstance(wire.text, list) else [wire.text]
    embedded = await service.embed(spec, texts, record_of(request.scope).stages)
    return _embeddings(request, start, spec, embedded, wire.encoding_format)


@router.post(
    "/compare",
    response_model=CompareResponse,
    responses=NOT_ACCEPTABLE,
    openapi_extra=body(
        CompareRequest,
        examples={
            "An image with texts": {"subject": _IMAGE, "prompt": _TEXTS},
            "Named texts": {"subject": _IMAGE, "prompt": {"circle": "a red circle", "square": "a blue square"}},
            "A text with images": {
                "subject": "a red circle",
                "subject_type": "text",
                "prompt": [_IMAGE],
                "prompt_type": "image",
            },
        },
    ),
)
async def compare(request: Request) -> Response:
    """Compare one image or text with others by cosine similarity."""
    start = time.perf_counter()
    check_incumbent_query(request)
    require_json(request)
    wire = await read_json(request, CompareRequest)
    service = context_of(request.app).service
    spec = service.select(wire.perception_encoder_version_id)
    query = _query(wire)
    names, candidates = _candidates(wire)
    similarities = await service.compare(spec, query, candidates, record_of(request.scope).stages)
    answer = {
        "inference_id": None,
        "frame_id": None,
        "time": time.perf_counter() - start,
        "similarity": similarities if names is None else dict(zip(names, similarities, strict=True)),
        "parent_id": None,
    }
    return json_response(answer, headers=model_id(spec))


# -- conversion between wire models and the service


def _source(image: InferenceRequestImage | str, index: int | None = None) -> ImageSource:
    return undeclared(image, index) if isinstance(image, str) else declared(image.type, image.value, index)


def _sources(images: Sequence[InferenceRequestImage | str]) -> list[ImageSource]:
    return [_source(image, index) for image, index in zip(images, item_indices(len(images)), strict=True)]


def _query(wire: CompareRequest) -> ImageSource | str:
    if _is_text("subject", wire.subject_type):
        return _text("subject", wire.subject)
    return _source(wire.subject)


def _candidates(wire: CompareRequest) -> tuple[list[str] | None, list[ImageSource] | list[str]]:
    """The prompts, and their names if they are the values of an object."""
    prompt = wire.prompt
    names: list[str] | None = None
    items: Sequence[InferenceRequestImage | str]
    if isinstance(prompt, dict) and "type" in prompt and "value" in prompt:
        # Pydantic reads such an object as named texts. The incumbent reads it as one image.
        items = [InferenceRequestImage(type=_text("type", prompt["type"]), value=prompt["value"])]
    elif isinstance(prompt, dict):
        names, items = list(prompt), list(prompt.values())
    else:
        items = prompt if isinstance(prompt, list) else [prompt]
    if _is_text("prompt", wire.prompt_type):
        return names, [_text("prompt", item) for item in items]
    if not items:
        # The incumbent answers an empty list of texts, and fails for an empty list of images.
        raise InvalidInput("There are no images in `prompt`.")
    return names, _sources(items)


def _is_text(field: str, declared_type: str) -> bool:
    if declared_type not in ("image", "text"):
        raise InvalidInput(f"`{field}_type` must be `image` or `text`, not {declared_type[:64]!r}.")
    return declared_type == "text"


def _text(field: str, value: InferenceRequestImage | str) -> str:
    if not isinstance(value, str):
        raise InvalidInput(f"`{field}` holds an image, but `{field}_type` is `text`.")
    return value


def model_id(spec: EncoderSpec) -> dict[str, str]:
    """The incumbent's header that names the model."""
    return {"x-model-id": f"perception_encoder/{spec.variant}"}


def _embeddings(
    request: Request, start: float, spec: EncoderSpec, embedded: Embedded, encoding_format: EncodingFormat
) -> Response:
    headers = model_id(spec)
    if embedded.truncated:
        headers["x-truncated"] = ",".join(map(str, embedded.truncated))
    if wants_npy(request):
        return Response(npy(embedded.embeddings), headers=headers, media_type=NPY)
    answer = {
        "inference_id": None,
        "frame_id": None,
        "time": time.perf_counter() - start,
        "embeddings": rows(embedded.embeddings, encoding_format),
    }
    return json_response(answer, headers=headers)
