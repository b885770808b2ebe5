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
from gateway.http.openapi import OPENAI_ERRORS, PICTURE, body
from gateway.http.roboflow import model_id
from gateway.images.sources import Base64Image, ImageSource, undeclared

_OWNER = "perception-encoder-server"


class ImageItem(BaseModel):
    """An image, said to be one."""

    model_config = ConfigDict(extra="forbid")
    image: str = Field(description="A `data:` URI, plain base64, or an https URL.", examples=[PICTURE])


class TextItem(BaseModel):
    """A text, said to be one: for texts that look like images."""

    model_config = ConfigDict(extra="forbid")
    text: str = Field(description="A text, whatever it looks like.", examples=["a red circle"])


_TEXTS = ["a red circle", "a blue square"]
_MIXTURE = ["a red circle", {"text": "a blue square"}, {"image": PICTURE}, f"data:image/png;base64,{PICTURE}"]


class EmbeddingsRequest(BaseModel):
    """OpenAI's, with images where texts may stand."""

    input: list[str | TextItem | ImageItem] | str | TextItem | ImageItem = Field(
        description='Texts, `data:image/` URIs, `{"text": ...}` or `{"image": ...}`; one, or a list in any mixture.',
        examples=[_TEXTS, _MIXTURE],
    )
    model: str | None = Field(None, description="The variant; without it the server's default.", examples=[None])
    encoding_format: EncodingFormat = Field(
        "float", description="`float` or `base64` (little-endian float32).", examples=["float", "base64"]
    )
    dimensions: int | None = Field(
        None, description="Only what the model has: its embeddings cannot be shortened.", examples=[None]
    )
    user: str | None = Field(None, description="Ignored.", examples=[None])


class Embedding(BaseModel):
    """One row [D] of float32, and the place in the input that it belongs to."""

    object: str = Field("embedding", description="Always this.", examples=["embedding"])
    index: int = Field(description="Its place in the input, from 0.", examples=[0])
    embedding: list[float] | str = Field(
        description="Of unit length: numbers, or base64 where that was asked for.", examples=[[0.6, -0.8]]
    )


class Usage(BaseModel):
    """What was read, in tokens."""

    prompt_tokens: int = Field(
        description="Tokens of the texts, start and end included. Images have none.", examples=[10]
    )
    total_tokens: int = Field(description="The same.", examples=[10])


class EmbeddingsResponse(BaseModel):
    """Embeddings in the order of the input."""

    object: str = Field("list", description="Always this.", examples=["list"])
    data: list[Embedding] = Field(description="One entry an item, in order.")
    model: str = Field(description="The variant that answered.", examples=["PE-Core-L14-336"])
    usage: Usage = Field(description="What was read.")


class Model(BaseModel):
    """A variant that is loaded."""

    id: str = Field(description="The variant's name.", examples=["PE-Core-L14-336"])
    object: str = Field("model", description="Always this.", examples=["model"])
    created: int = Field(description="When this server started, in seconds since 1970.", examples=[1790000000])
    owned_by: str = Field(_OWNER, description="Always this.", examples=[_OWNER])


class ModelList(BaseModel):
    """The variants that are loaded."""

    object: str = Field("list", description="Always this.", examples=["list"])
    data: list[Model] = Field(description="The variants that are loaded.")


router = APIRouter(prefix="/v1", tags=["OpenAI"], responses=OPENAI_ERRORS)


@router.post(
    "/embeddings",
    response_model=EmbeddingsResponse,
    openapi_extra=body(
        EmbeddingsRequest,
        examples={
            "Texts": {"input": _TEXTS},
            "Texts and images, embeddings in base64": {"input": _MIXTURE, "encoding_format": "base64"},
        },
    ),
)
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
