"""Zero-shot classification: our own endpoint, beside Roboflow's."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.errors import InvalidInput
from gateway.http.answer_headers import answer_headers
from gateway.http.body import authenticate, read_json
from gateway.http.classify_form import read_classify_form
from gateway.http.classify_wire import TOP_K, ClassifyFields, ClassifyRequest, ClassifyResponse
from gateway.http.context import context_of
from gateway.http.dispatch import EndpointRoute
from gateway.http.form import has_form
from gateway.http.headers import MULTIPART, URLENCODED, media_type
from gateway.http.json_response import json_response, json_string
from gateway.http.long_strings import LongStrings
from gateway.http.negotiate import counted, require_json
from gateway.http.openapi import ERRORS, FILES, NOT_ACCEPTABLE, STRINGS, body
from gateway.http.query import DOCUMENTED_INCUMBENT_QUERY, check_incumbent_query
from gateway.http.record import record_of
from gateway.http.roboflow_wire import IMAGE
from gateway.http.wire_images import required_sources
from gateway.images.sources import ImageSource
from gateway.zero_shot import Classes, prompts

# Building and writing the answer takes 1 us for each prediction, and 2 ns for each byte of a name. JSON writes a
# character as 12 bytes at most.
_MAX_PREDICTIONS: Final = 10_000
_MAX_NAME_CHARACTERS: Final = 512 * 2**10

router = APIRouter(
    prefix="/perception_encoder",
    tags=["Zero-shot classification"],
    responses=ERRORS,
    dependencies=[DOCUMENTED_INCUMBENT_QUERY],
    route_class=EndpointRoute,
)


@router.post(
    "/classify",
    summary="Find the most probable of given classes for each image",
    response_model=ClassifyResponse,
    responses=NOT_ACCEPTABLE,
    openapi_extra=body(
        ClassifyRequest,
        forms={
            MULTIPART: {"image": FILES, "classes": STRINGS, "template": STRINGS},
            URLENCODED: {"image": STRINGS, "classes": STRINGS, "template": STRINGS},
        },
        examples={
            "Classes with a template": {
                "image": IMAGE,
                "classes": ["circle", "square"],
                "template": "a drawing of a {}",
            },
            "Several prompts for each class": {
                "image": [IMAGE],
                "classes": {"circle": ["a red circle", "a disc"], "square": ["a blue square", "a box"]},
                "top_k": 1,
            },
        },
    ),
)
async def classify(request: Request) -> Response:
    """Send images, and classes as names or with prompts of their own. No training is needed.

    The embedding of a class is the mean of the embeddings of its prompts. Probabilities are the softmax over all given
    classes, so they say nothing about classes that were not given. `X-Truncated` lists the indices of classes with a
    prompt that was longer than the model's context.
    """
    check_incumbent_query(request)
    require_json(request)
    if media_type(request.scope).startswith("image/"):
        authenticate(request, None)
        raise InvalidInput("An image file as the body leaves no place for `classes`. Send a form, or JSON.")
    form, request = await has_form(request)
    images: list[ImageSource]
    if form:
        fields, images = await read_classify_form(request)
        strings = LongStrings(context_of(request.app).max_text_characters)
    else:
        fields, strings = await read_json(request, ClassifyRequest, ClassifyFields)
        images = await required_sources(fields.image, strings)
    classes = await _classes(fields, strings, context_of(request.app).max_texts)
    top_k = min(fields.top_k or TOP_K, len(classes))
    predictions = len(images) * top_k
    lengths = list(map(len, classes))
    characters = len(images) * min(top_k * max(lengths), sum(lengths))
    if predictions > _MAX_PREDICTIONS or characters > _MAX_NAME_CHARACTERS:
        raise InvalidInput("The answer would be too long. Send fewer images, a smaller `top_k` or shorter names.")
    start = time.perf_counter()
    service = context_of(request.app).service
    spec = service.select(fields.perception_encoder_version_id)
    found = await service.classify(spec, images, list(classes.values()), record_of(request.scope).stages)
    predicted = await _predictions(found.classes, list(classes), top_k)
    answer = {"time": time.perf_counter() - start, "predictions": predicted}
    return counted(json_response(answer, headers=answer_headers(spec, found.truncated)))


async def _classes(fields: ClassifyFields, strings: LongStrings, max_prompts: int) -> dict[str, list[str]]:
    """The prompts of each class, with the long strings of the document in place."""
    template = fields.template or []
    templates = await strings.texts([template] if isinstance(template, str) else template)
    if not isinstance(fields.classes, dict):
        return prompts(await strings.texts(fields.classes), templates, max_prompts)
    names = await strings.texts(list(fields.classes))
    given = [await strings.texts([texts] if isinstance(texts, str) else texts) for texts in fields.classes.values()]
    return prompts(dict(zip(names, given, strict=True)), templates, max_prompts)


async def _predictions(found: Classes, names: Sequence[str], top_k: int) -> list[list[dict[str, Any]]]:
    written = list(map(json_string, names))
    images = []
    for indices, row, similarities in zip(
        found.order[:, :top_k].tolist(), found.probabilities, found.similarities, strict=True
    ):
        await asyncio.sleep(0)
        images.append(
            [
                {"class": written[index], "probability": float(row[index]), "similarity": float(similarities[index])}
                for index in indices
            ]
        )
    return images
