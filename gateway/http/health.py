"""Routes for operators and orchestrators: health, readiness, server information, metrics and loaded models."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import PlainTextResponse, Response

from gateway.encoder import EncoderSpec
from gateway.http.context import context_of
from gateway.http.json_response import json_response

_NAME: Final = "Perception Encoder Server"
# Shown for the variant, or in the name of the tower.
_SHOWN_ELSEWHERE: Final = frozenset(("tower", "variant", "context_length", "token_lengths"))

# Figures of the incumbent's own process, which are null here.
_GPU_MEMORY_FIGURES: Final = (
    "total_vram_bytes",
    "gpu_memory_used",
    "gpu_memory_total",
    "torch_cuda_allocated",
    "torch_cuda_reserved",
    "torch_cuda_allocator_cache",
    "non_torch_gpu_memory",
)

# -- wire models, for the documentation


class Health(BaseModel):
    """Liveness of the process."""

    status: str = Field(description="`healthy`.", examples=["healthy"])


class Readiness(BaseModel):
    """Readiness of the models."""

    status: str = Field(description="`ready` or `not ready`.", examples=["ready"])


class Tower(BaseModel):
    """One of a variant's two models, with the entries of its certificate that the other model does not have."""

    model_config = ConfigDict(extra="allow")
    version: str = Field(description="The model's version in Triton's repository.", examples=["1"])
    max_batch_size: int = Field(description="Items in one call to Triton, at most.", examples=[64])


class Variant(BaseModel):
    """One loaded variant, with the entries that both certificates have: precision, engine, `logit_scale`, ..."""

    model_config = ConfigDict(extra="allow")
    image_size: list[int] = Field(description="Height and width that images are squashed to.", examples=[[336, 336]])
    context_length: int = Field(description="Tokens of a text that are read, at most.", examples=[32])
    token_lengths: list[int] = Field(
        description="Lengths in tokens that texts are padded to.", examples=[[8, 16, 24, 32]]
    )
    embed_dim: int = Field(description="Numbers of an embedding.", examples=[1024])
    embedding_space: str = Field(
        description="Variant and weights. Only embeddings of one space can be compared.",
        examples=["PE-Core-L14-336@0f1a2b3c4d5e"],
    )
    vision: Tower = Field(description="The model that embeds images.")
    text: Tower = Field(description="The model that embeds texts.")


class Limits(BaseModel):
    """Limits of one request."""

    max_items: int = Field(description="Images in one request, at most.", examples=[64])
    max_texts: int = Field(description="Texts in one request, at most.", examples=[2048])
    max_body_bytes: int = Field(description="Bytes of a request's body, at most.", examples=[67108864])


class Info(BaseModel):
    """The incumbent's three keys, then the loaded variants and the limits."""

    name: str = Field(description="Name of this server.", examples=[_NAME])
    version: str = Field(description="Version of this server.", examples=["0.2.0"])
    uuid: str = Field(description="Identifies this process; new after each start.", examples=["9ce49a"])
    models: dict[str, Variant] = Field(description="The loaded variants, by name.")
    limits: Limits = Field(description="How much one request may hold.")


class RegistryEntry(BaseModel):
    """One variant, as the incumbent lists it."""

    model_config = ConfigDict(extra="allow")
    model_id: str = Field(description="The variant.", examples=["perception_encoder/PE-Core-L14-336"])
    task_type: str = Field(description="Always `embedding`.", examples=["embedding"])
    batch_size: int = Field(description="Images in one call to Triton, at most.", examples=[64])
    input_height: int = Field(description="Height that images are squashed to.", examples=[336])
    input_width: int = Field(description="Width that images are squashed to.", examples=[336])


class Registry(BaseModel):
    """The loaded variants in the incumbent's form. Its figures of GPU memory are null."""

    model_config = ConfigDict(extra="allow")
    models: list[RegistryEntry] = Field(description="The loaded variants.")


# -- routes

router = APIRouter(tags=["Operation"])


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", summary="Check that the process is alive", response_model=Health)
async def healthz() -> Response:
    """A liveness probe. The models do not matter, because restarting the gateway cannot repair them."""
    return json_response({"status": "healthy"})


@router.head("/readiness", include_in_schema=False)
@router.get(
    "/readiness",
    summary="Check that every model answers",
    response_model=Readiness,
    responses={503: {"model": Readiness, "description": "A model does not answer, or the server is stopping."}},
)
async def readiness(request: Request) -> Response:
    """A readiness probe. An idle model is asked now. Load makes no difference."""
    context = context_of(request.app)
    ready = not context.drain.begun and await context.encoder.ready()
    return json_response({"status": "ready" if ready else "not ready"}, 200 if ready else 503)


@router.get("/info", summary="Describe the loaded variants and the limits", response_model=Info)
async def info(request: Request) -> Response:
    """Name and version as Roboflow's server reports them, the loaded variants, and the limits of one request."""
    context = context_of(request.app)
    return json_response(
        {
            "name": _NAME,
            "version": gateway_version(),
            "uuid": context.instance_id,
            "models": {name: describe(spec) for name, spec in context.encoder.specs.items()},
            "limits": {
                "max_items": context.max_images,
                "max_texts": context.max_texts,
                "max_body_bytes": context.max_body_bytes,
            },
        }
    )


@router.get("/metrics", summary="Read the metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """The metrics of all workers, in Prometheus text format."""
    return Response(context_of(request.app).metrics.exposition(), headers={"content-type": CONTENT_TYPE_LATEST})


@router.get("/model/registry", summary="List the loaded variants", response_model=Registry)
async def registry(request: Request) -> Response:
    """The loaded variants in the form of Roboflow's server. Triton's own metrics report GPU memory."""
    models = [
        {
            "model_id": f"perception_encoder/{name}",
            "task_type": "embedding",
            "batch_size": spec.vision.max_batch_size,
            "input_height": spec.image_size[0],
            "input_width": spec.image_size[1],
            "vram_bytes": None,
            "request_aliases": [],
            "request_paths": ["embed_image", "embed_text", "compare"],
        }
        for name, spec in context_of(request.app).encoder.specs.items()
    ]
    return json_response({"models": models, **dict.fromkeys(_GPU_MEMORY_FIGURES)})


@cache
def gateway_version() -> str:
    """The version of the installed package. It is cached, because it is read from files."""
    try:
        return version("perception-encoder-server")
    except PackageNotFoundError:
        return "unknown"


def describe(spec: EncoderSpec) -> dict[str, Any]:
    """Describe a variant: its shapes, and the certificates that the exporter wrote for its towers."""
    towers = {"vision": spec.vision, "text": spec.text}
    common = {
        key: value
        for key, value in spec.vision.certificate.items()
        if key not in _SHOWN_ELSEWHERE and spec.text.certificate.get(key) == value
    }
    return {
        "image_size": list(spec.image_size),
        "context_length": spec.context_length,
        "token_lengths": list(spec.token_lengths),
        "embed_dim": spec.embed_dim,
        "embedding_space": spec.space_name,
        **common,
        **{
            tower: {
                "version": served.version,
                "max_batch_size": served.max_batch_size,
                **{
                    key: value
                    for key, value in served.certificate.items()
                    if key not in common and key not in _SHOWN_ELSEWHERE
                },
            }
            for tower, served in towers.items()
        },
    }
