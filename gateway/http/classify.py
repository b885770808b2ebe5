"""Zero-shot classification: our own endpoint, beside Roboflow's."""

import time
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from fastapi import APIRouter, Request
from numpy.typing import NDArray
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
from gateway.http.json_response import json_response
from gateway.http.long_strings import LongStrings
from gateway.http.negotiate import require_json
from gateway.http.openapi import ERRORS, FILES, NOT_ACCEPTABLE, STRINGS, body
from gateway.http.query import DOCUMENTED_INCUMBENT_QUERY, check_incumbent_query
from gateway.http.record import record_of
from gateway.http.roboflow_wire import IMAGE
from gateway.http.wire_images import required_sources
from gateway.images.sources import ImageSource
from gateway.service import Classified
from gateway.zero_shot import prompts

# Building and writing the answer takes 1 us for each prediction, and 1 ns for each character of a name.
_MAX_PREDICTIONS: Final = 10_000
_MAX_NAME_CHARACTERS: Final = 4 * 2**20

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
        images = required_sources(fields.image, strings)
    classes = await _classes(fields, strings, context_of(request.app).max_texts)
    top_k = min(fields.top_k or TOP_K, len(classes))
    predictions = len(images) * top_k
    if predictions > _MAX_PREDICTIONS or predictions * max(map(len, classes)) > _MAX_NAME_CHARACTERS:
        raise InvalidInput("The answer would be too long. Send fewer images, a smaller `top_k` or shorter names.")
    start = time.perf_counter()
    service = context_of(request.app).service
    spec = service.select(fields.perception_encoder_version_id)
    found = await service.classify(spec, images, list(classes.values()), record_of(request.scope).stages)
    answer = {"time": time.perf_counter() - start, "predictions": _predictions(found, list(classes), top_k)}
    return json_response(answer, headers=answer_headers(spec, found.truncated))


async def _classes(fields: ClassifyFields, strings: LongStrings, max_prompts: int) -> dict[str, list[str]]:
    """The prompts of each class, with the long strings of the document in place."""
    template = fields.template or []
    templates = await strings.texts([template] if isinstance(template, str) else template)
    if not isinstance(fields.classes, dict):
        return prompts(await strings.texts(fields.classes), templates, max_prompts)
    names = await strings.texts(list(fields.classes))
    given = [await strings.texts([texts] if isinstance(texts, str) else texts) for texts in fields.classes.values()]
    return prompts(dict(zip(names, given, strict=True)), templates, max_prompts)


def _predictions(found: Classified, names: Sequence[str], top_k: int) -> list[list[dict[str, Any]]]:
    order: NDArray[np.intp] = np.argsort(-found.probabilities, axis=1, kind="stable")[:, :top_k]
    return [
        [
            {"class": names[index], "probability": float(row[index]), "similarity": float(similarities[index])}
            for index in indices.tolist()
        ]
        for indices, row, similarities in zip(order, found.probabilities, found.similarities, strict=True)
    ]
