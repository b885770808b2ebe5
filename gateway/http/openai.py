"""OpenAI's embeddings and models routes: https://platform.openai.com/docs/api-reference/embeddings.

Images are this server's addition, because OpenAI's API has none: a `data:` URI in place of a text, or an object
`{"image": ...}`.
"""

from collections.abc import Sequence
from typing import Any, Final

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from gateway.encoder import EncoderSpec
from gateway.errors import InvalidInput
from gateway.http.answer_headers import answer_headers
from gateway.http.body import read_json
from gateway.http.context import context_of
from gateway.http.decode_json import WireStruct
from gateway.http.dispatch import EndpointRoute
from gateway.http.json_response import json_response
from gateway.http.long_strings import LongStrings
from gateway.http.negotiate import EncodingFormat, embeddings_response, rows
from gateway.http.openapi import OPENAI_ERRORS, PICTURE, body
from gateway.http.record import record_of
from gateway.images.sources import Base64Image, ImageSource, item_indices, undeclared

_OWNER: Final = "perception-encoder-server"
_DATA_URI: Final = "data:image/"


class ImageItem(BaseModel):
    """An image."""

    model_config = ConfigDict(extra="forbid")
    text: None = Field(None, description="No text.", examples=[None])
    image: str = Field(description="A `data:` URI, plain base64, or an https URL.", examples=[PICTURE])


class TextItem(BaseModel):
    """A text. Needed only for texts that look like `data:image/` URIs."""

    model_config = ConfigDict(extra="forbid")
    text: str = Field(description="The text.", examples=["a red circle"])
    image: None = Field(None, description="No image.", examples=[None])


_TEXTS: Final = ["a red circle", "a blue square"]
_MIXTURE: Final = ["a red circle", {"text": "a blue square"}, {"image": PICTURE}, f"data:image/png;base64,{PICTURE}"]


class EmbeddingsRequest(BaseModel):
    """OpenAI's request, with images in place of texts. It documents the body; `EmbeddingsFields` reads it."""

    input: list[str | TextItem | ImageItem] | str | TextItem | ImageItem = Field(
        description='Texts, `data:image/` URIs, `{"text": ...}` or `{"image": ...}`; one, or a list in any mixture.',
        examples=[_TEXTS, _MIXTURE],
    )
    model: str | None = Field(None, description="The variant. Default: the server's.", examples=[None])
    encoding_format: EncodingFormat | None = Field(
        "float", description="`float` or `base64` (little-endian float32).", examples=["float", "base64"]
    )
    dimensions: int | None = Field(
        None, description="Must be the model's own number, because embeddings cannot be shortened.", examples=[None]
    )
    user: str | None = Field(None, description="Ignored.", examples=[None])


_TOKEN_IDS: Final = (
    "The input holds token ids, which belong to the vocabulary of another model. Send the texts themselves. "
    "In LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False)."
)


class ItemFields(WireStruct, forbid_unknown_fields=True):
    """What is decoded of a text or an image that is an object."""

    text: str | None = None
    image: str | None = None

    def __post_init__(self) -> None:
        if (self.text is None) is (self.image is None):
            raise ValueError("Expected either `text` or `image`")


class EmbeddingsFields(WireStruct, kw_only=True):
    """What is decoded of a request."""

    input: list[str | ItemFields] | str | ItemFields
    model: str | None = None
    encoding_format: EncodingFormat | None = None
    dimensions: int | None = None
    user: str | None = None

    @classmethod
    def explain(cls, location: Sequence[str | int], found: str) -> None:
        """Raise an `InvalidInput` for token ids, which OpenAI's API takes in place of texts."""
        if list(location) == ["input", 0] and found in ("int", "array"):
            raise InvalidInput(_TOKEN_IDS)


class Embedding(BaseModel):
    """One embedding, and the index of its item."""

    object: str = Field("embedding", description="Always this.", examples=["embedding"])
    index: int = Field(description="Index of the item in the input, from 0.", examples=[0])
    embedding: list[float] | str = Field(
        description="The unit-length embedding: numbers, or base64 if that was requested.", examples=[[0.6, -0.8]]
    )


class Usage(BaseModel):
    """The size of the input."""

    prompt_tokens: int = Field(
        description="Tokens of the texts, start and end included. Images have none.", examples=[10]
    )
    total_tokens: int = Field(description="The same.", examples=[10])


class EmbeddingsResponse(BaseModel):
    """Embeddings in the order of the input."""

    object: str = Field("list", description="Always this.", examples=["list"])
    data: list[Embedding] = Field(description="One entry an item, in order.")
    model: str = Field(description="The variant that answered.", examples=["PE-Core-L14-336"])
    usage: Usage = Field(description="How many tokens the input has.")


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


router = APIRouter(prefix="/v1", tags=["OpenAI"], responses=OPENAI_ERRORS, route_class=EndpointRoute)


@router.post(
    "/embeddings",
    summary="Embed texts and images",
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
    """Send one item or a list. An image is a `data:` URL, or an object with `image`. Embeddings are in order.

    `X-Truncated` lists the indices of texts that were longer than the model's context.
    """
    fields, strings = await read_json(request, None, EmbeddingsFields)
    service = context_of(request.app).service
    spec = service.select(fields.model)
    if fields.dimensions not in (None, spec.embed_dim):
        raise InvalidInput(f"{spec.variant} embeds in {spec.embed_dim} dimensions, and in no other number.")
    entries = fields.input if isinstance(fields.input, list) else [fields.input]
    if not entries:
        raise InvalidInput("The input is empty.")
    embedded = await service.embed(spec, await _items(entries, strings), record_of(request.scope).stages)
    answer = {
        "object": "list",
        "data": await rows(embedded.embeddings, fields.encoding_format, _embedding),
        "model": spec.variant,
        "usage": {"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens},
    }
    return embeddings_response("data", answer, answer_headers(spec, embedded.truncated))


def _embedding(index: int, row: object) -> dict[str, object]:
    return {"object": "embedding", "index": index, "embedding": row}


@router.get("/models", summary="List the loaded variants", response_model=ModelList)
async def models(request: Request) -> Response:
    """The loaded variants as OpenAI's clients list models. Each name is a value for `model`."""
    context = context_of(request.app)
    data = [_model(spec, context.started_at) for spec in context.encoder.specs.values()]
    return json_response({"object": "list", "data": data})


@router.get("/models/{model}", summary="Describe one loaded variant", response_model=Model)
async def model(request: Request, model: str) -> Response:
    """One variant as OpenAI's clients retrieve a model. A variant that is not loaded is a 404."""
    context = context_of(request.app)
    return json_response(_model(context.service.select(model), context.started_at))


def _model(spec: EncoderSpec, created: int) -> dict[str, Any]:
    return {"id": spec.variant, "object": "model", "created": created, "owned_by": _OWNER}


async def _items(entries: list[str | ItemFields], strings: LongStrings) -> list[ImageSource | str]:
    indices = item_indices(len(entries))
    return [await _item(entry, strings, index) for entry, index in zip(entries, indices, strict=True)]


async def _item(entry: str | ItemFields, strings: LongStrings, index: int | None) -> ImageSource | str:
    """Read one entry of `input`: an image, or a text."""
    if isinstance(entry, str):
        if strings.start(entry, len(_DATA_URI)).lower() == _DATA_URI:
            return Base64Image(await strings.payload(entry), index)
        text = entry
    elif entry.image is not None:
        return undeclared(await strings.payload(entry.image), index)
    else:
        assert entry.text is not None, "an item has one of the two"
        text = entry.text
    (text,) = await strings.texts([text])
    return text
