"""OpenAI's embeddings route, for texts and images alike.

https://platform.openai.com/docs/api-reference/embeddings. Images are this server's addition, as there is no standard
for them: a ``data:`` URI where a text may stand, or an object ``{"image": ...}``.
"""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from gateway.encoder import EncoderSpec
from gateway.errors import InvalidImage, InvalidInput
from gateway.http.body import read_json
from gateway.http.dependencies import service_of, stages_of
from gateway.http.json import json_response
from gateway.http.negotiate import EncodingFormat, rows
from gateway.http.openapi import OPENAI_ERRORS, body
from gateway.http.roboflow import model_id
from gateway.sources import Base64Image, ImageSource, undeclared

_OWNER = "perception-encoder-server"


class ImageItem(BaseModel):
    model_config = ConfigDict(extra="forbid")
    image: str = Field(description="A `data:` URI, plain base64, or an https URL.")


class TextItem(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: str


class EmbeddingsRequest(BaseModel):
    input: list[str | TextItem | ImageItem] | str | TextItem | ImageItem = Field(
        description='Texts, `data:image/` URIs, `{"text": ...}` or `{"image": ...}`; one, or a list in any mixture.',
        examples=[["a cat", {"image": "https://example.com/cat.jpg"}]],
    )
    model: str | None = Field(None, description="The variant; without it the server's default.")
    encoding_format: EncodingFormat = Field("float", description="`float` or `base64` (little-endian float32).")
    dimensions: int | None = Field(None, description="Only what the model has: its embeddings cannot be shortened.")
    user: str | None = Field(None, description="Ignored.")


class Embedding(BaseModel):
    object: str = "embedding"
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    prompt_tokens: int = Field(description="Tokens of the texts, start and end included. Images have none.")
    total_tokens: int


class EmbeddingsResponse(BaseModel):
    object: str = "list"
    data: list[Embedding]
    model: str
    usage: Usage


class Model(BaseModel):
    id: str
    object: str = "model"
    created: int = Field(description="When this server started, in seconds since 1970.")
    owned_by: str = _OWNER


class ModelList(BaseModel):
    object: str = "list"
    data: list[Model]


router = APIRouter(prefix="/v1", tags=["OpenAI"], responses=OPENAI_ERRORS)


@router.post("/embeddings", response_model=EmbeddingsResponse, openapi_extra=body(EmbeddingsRequest))
async def embeddings(request: Request) -> Response:
    """Embeddings of texts and images, in the order they came."""
    wire = await read_json(request, EmbeddingsRequest)
    service = service_of(request)
    spec = service.select(wire.model)
    if wire.dimensions not in (None, spec.embed_dim):
        raise InvalidInput(f"{spec.variant} embeds in {spec.embed_dim} dimensions, and in no other number.")
    entries = wire.input if isinstance(wire.input, list) else [wire.input]
    if not entries:
        raise InvalidInput("The input is empty.")
    embedded = await service.embed(spec, _items(entries), stages_of(request))
    answer = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": row}
            for index, row in enumerate(rows(embedded.embeddings, wire.encoding_format))
        ],
        "model": spec.variant,
        "usage": {"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens},
    }
    return json_response(answer, headers=model_id(spec))


@router.get("/models", response_model=ModelList)
async def models(request: Request) -> Response:
    """The variants that are loaded."""
    specs = request.app.state.encoder.specs.values()
    return json_response({"object": "list", "data": [_model(request, spec) for spec in specs]})


@router.get("/models/{model}", response_model=Model)
async def model(request: Request, model: str) -> Response:
    """One of them."""
    return json_response(_model(request, service_of(request).select(model)))


def _model(request: Request, spec: EncoderSpec) -> dict[str, Any]:
    return {"id": spec.variant, "object": "model", "created": request.app.state.started, "owned_by": _OWNER}


def _items(entries: list[str | TextItem | ImageItem]) -> list[ImageSource | str]:
    items: list[ImageSource | str] = []
    for index, entry in enumerate(entries):
        try:
            if isinstance(entry, ImageItem):
                items.append(undeclared(entry.image))
            elif isinstance(entry, TextItem):
                items.append(entry.text)
            else:
                items.append(Base64Image(entry) if entry[:11].lower() == "data:image/" else entry)
        except InvalidImage as error:
            raise InvalidImage(error.cause, index if len(entries) > 1 else None) from None
    return items
