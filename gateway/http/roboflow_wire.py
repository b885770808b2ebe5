"""The wire models of Roboflow's three endpoints.

Field names, defaults and the order of the responses' keys are the incumbent's: roboflow/inference,
inference/core/entities/{requests,responses}/perception_encoder.py. "Subject" and "prompt" are the incumbent's words.

The pydantic models document the bodies, and word their errors. The structs are what is decoded: a struct leaves out
fields that nobody reads. Null means the default in both, although the incumbent refuses it in some fields.
"""

from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, Field

from gateway.errors import InvalidInput
from gateway.http.decode_json import WireStruct
from gateway.http.negotiate import EncodingFormat
from gateway.http.openapi import PICTURE
from gateway.images.formats import ACCEPTED_TEXT

# -- wire models of requests


_OnlyStrings = AfterValidator(lambda value: value if isinstance(value, str) else None)


class InferenceRequestImage(BaseModel):
    """One image: `{"type": "base64", "value": "..."}` or `{"type": "url", "value": "https://..."}`."""

    type: str = Field(description="`base64`, `url`, or `numpy` where the server allows it.", examples=["base64"])
    # As in the incumbent, other values are refused where the image is loaded.
    value: Annotated[Any, _OnlyStrings] = Field(
        None, description=f"The image file in base64, or its URL: {ACCEPTED_TEXT}.", examples=[PICTURE]
    )


_ENCODING_FORMAT: Final = "`base64`: each embedding as little-endian float32 in base64, a fifth of the size of numbers."


class _Request(BaseModel):
    """Fields of all three requests. The incumbent's clients send the ignored ones."""

    perception_encoder_version_id: str | None = Field(
        None,
        description="The variant, such as `PE-Core-L14-336`. Default: the server's.",
        examples=[None],
    )
    model_id: str | None = Field(None, description="Ignored, as by Roboflow Inference.", examples=[None])
    id: str | None = Field("", description="Ignored.", examples=[""])
    api_key: str | None = Field(
        None, description="A key of this server; ignored if the server has none.", examples=[None]
    )
    usage_billable: bool | None = Field(True, description="Ignored.", examples=[True])
    start: float | None = Field(None, description="Ignored.", examples=[None])
    source: str | None = Field(None, description="Ignored.", examples=[None])
    source_info: str | None = Field(None, description="Ignored.", examples=[None])
    disable_model_monitoring: bool | None = Field(False, description="Ignored.", examples=[False])
    stream_pipeline_context_id: str | None = Field(None, description="Ignored.", examples=[None])


IMAGE: Final = {"type": "base64", "value": PICTURE}
TEXTS: Final = ["a red circle", "a blue square"]


class EmbedImageRequest(_Request):
    """Images to embed."""

    image: list[InferenceRequestImage] | InferenceRequestImage = Field(
        description="One image or a list of them.", examples=[IMAGE, [IMAGE, IMAGE]]
    )
    encoding_format: EncodingFormat | None = Field("float", description=_ENCODING_FORMAT, examples=["float", "base64"])


class EmbedTextRequest(_Request):
    """Texts to embed."""

    text: list[str] | str = Field(description="One text or a list of them.", examples=["a red circle", TEXTS])
    encoding_format: EncodingFormat | None = Field("float", description=_ENCODING_FORMAT, examples=["float", "base64"])


class CompareRequest(_Request):
    """One subject, and the prompts to compare it with."""

    subject: InferenceRequestImage | str = Field(
        description="The item to compare: an image or a text.", examples=[IMAGE]
    )
    subject_type: str | None = Field("image", description="`image` or `text`.", examples=["image"])
    prompt: (
        list[InferenceRequestImage] | InferenceRequestImage | str | list[str] | dict[str, InferenceRequestImage | str]
    ) = Field(
        description="The items to compare the subject with: one, a list, or an object of named ones.",
        examples=["a red circle", TEXTS, {"circle": "a red circle", "square": "a blue square"}],
    )
    prompt_type: str | None = Field("text", description="`text` or `image`.", examples=["text"])


# -- what is decoded of requests


class ImageFields(WireStruct, kw_only=True):
    """One image."""

    type: str
    value: str | None = None


class _Fields(WireStruct, kw_only=True):
    perception_encoder_version_id: str | None = None
    # Ignored, but refused if they have another type, as the incumbent does. Numbers that clients may repeat are not
    # decoded at all: some of 24 digits take 14 µs.
    model_id: str | None = None
    id: str | None = None
    api_key: str | None = None
    usage_billable: bool | None = None
    source: str | None = None
    source_info: str | None = None
    disable_model_monitoring: bool | None = None
    stream_pipeline_context_id: str | None = None


class EmbedImageFields(_Fields, kw_only=True):
    """Images to embed."""

    image: list[ImageFields] | ImageFields
    encoding_format: EncodingFormat | None = None


class EmbedTextFields(_Fields, kw_only=True):
    """Texts to embed."""

    text: list[str] | str
    encoding_format: EncodingFormat | None = None


Named = dict[str, ImageFields | str | bool | int | None]
"""Named items, or an image, whose `type` and `value` are strings and whose other fields are ignored."""


class CompareFields(_Fields, kw_only=True):
    """One subject, and the prompts to compare it with."""

    subject: ImageFields | str
    subject_type: str | None = None
    prompt: list[ImageFields | str] | str | Named
    prompt_type: str | None = None

    def __post_init__(self) -> None:
        prompt = self.prompt
        if isinstance(prompt, list) and len({type(item) for item in prompt}) > 1:
            raise ValueError("Expected either texts or images")
        if isinstance(prompt, dict):
            items = [prompt["type"]] if is_image(prompt) else prompt.values()
            if not all(isinstance(item, ImageFields | str) for item in items):
                raise ValueError("Expected texts or images")


def is_image(prompt: Named) -> bool:
    """Whether an object is one image, as the incumbent decides it."""
    return "type" in prompt and "value" in prompt


def is_text(field: str, declared_type: str | None, default: str) -> bool:
    """Whether a subject or prompts are texts, by what `subject_type` or `prompt_type` says."""
    if declared_type is None:
        declared_type = default
    if declared_type not in ("image", "text"):
        raise InvalidInput(f"`{field}_type` must be `image` or `text`, not {declared_type[:64]!r}.")
    return declared_type == "text"


def not_text(field: str) -> InvalidInput:
    """The error for an image where texts are declared."""
    return InvalidInput(f"`{field}` holds an image, but `{field}_type` is `text`.")


# -- wire models of responses: only for the documentation, because responses are serialised from arrays

_ALWAYS_NULL: Final = "Null, as in Roboflow Inference."


class EmbeddingResponse(BaseModel):
    """N embeddings [N, D], unit length."""

    inference_id: str | None = Field(None, description=_ALWAYS_NULL, examples=[None])
    frame_id: int | None = Field(None, description=_ALWAYS_NULL, examples=[None])
    time: float = Field(description="Seconds the server took, without the upload.", examples=[0.0052])
    embeddings: list[list[float]] | list[str] = Field(
        description="One unit-length embedding for each item, in order: numbers, or base64 if that was requested.",
        examples=[[[0.6, -0.8]], ["mpkZP83MTL8="]],
    )


class CompareResponse(BaseModel):
    """Raw cosines, unscaled: at most 1, or 1.0000001 by rounding."""

    inference_id: str | None = Field(None, description=_ALWAYS_NULL, examples=[None])
    frame_id: int | None = Field(None, description=_ALWAYS_NULL, examples=[None])
    time: float = Field(description="Seconds the server took, without the upload.", examples=[0.0052])
    similarity: list[float] | dict[str, float] = Field(
        description="Cosine similarity to each prompt: a list in their order, or an object with their names.",
        examples=[[0.4, -0.15], {"circle": 0.4, "square": -0.15}],
    )
    parent_id: str | None = Field(None, description=_ALWAYS_NULL, examples=[None])
