"""The wire models of zero-shot classification. The pydantic models document and word errors; the struct is decoded."""

from typing import Final

from pydantic import BaseModel, Field

from gateway.http.decode_json import WireStruct
from gateway.http.roboflow_wire import IMAGE, ImageFields, InferenceRequestImage

TOP_K: Final = 5
"""The number of classes in an answer, if the request does not say."""


class ClassifyRequest(BaseModel):
    """Images, and the classes to choose from."""

    image: list[InferenceRequestImage] | InferenceRequestImage = Field(
        description="One image or a list of them.", examples=[IMAGE, [IMAGE, IMAGE]]
    )
    classes: list[str] | dict[str, list[str] | str] = Field(
        description="Names of classes, or an object with one or several prompts for each class.",
        examples=[["circle", "square"], {"circle": ["a red circle", "a drawing of a circle"], "square": "a square"}],
    )
    template: list[str] | str | None = Field(
        None,
        description="Prompts for named classes: `{}` stands for the class. Default: the name itself.",
        examples=["a drawing of a {}", ["a red {}", "a blue {}"]],
    )
    top_k: int | None = Field(TOP_K, ge=1, description="How many classes to answer for each image.", examples=[5])
    perception_encoder_version_id: str | None = Field(
        None, description="The variant, such as `PE-Core-L14-336`. Default: the server's.", examples=[None]
    )
    api_key: str | None = Field(
        None, description="A key of this server; ignored if the server has none.", examples=[None]
    )


class ClassifyFields(WireStruct, kw_only=True):
    """What is decoded of a request."""

    image: list[ImageFields] | ImageFields
    classes: list[str] | dict[str, list[str] | str]
    template: list[str] | str | None = None
    top_k: int | None = None
    perception_encoder_version_id: str | None = None
    api_key: str | None = None

    def __post_init__(self) -> None:
        if self.top_k is not None and self.top_k < 1:
            raise ValueError("Expected `top_k` of at least 1")


class Prediction(BaseModel):
    """One class of an image."""

    # `class` is a keyword of Python.
    name: str = Field(alias="class", description="The class.", examples=["circle"])
    probability: float = Field(
        description="The softmax of all similarities times the model's logit scale.", examples=[0.98]
    )
    similarity: float = Field(description="The cosine to the class.", examples=[0.4])


class ClassifyResponse(BaseModel):
    """The most probable classes of each image."""

    time: float = Field(description="Seconds the server took, without the upload.", examples=[0.0052])
    predictions: list[list[Prediction]] = Field(
        description="For each image in order, its classes in falling order of probability."
    )
