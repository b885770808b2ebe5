"""What operators and orchestrators ask: alive, ready, what is this, how is it doing."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import PlainTextResponse, Response

from gateway.encoder import EncoderSpec
from gateway.http.json import json_response

_NAME: Final = "Perception Encoder Server"

router = APIRouter(tags=["Operation"])


@router.get("/healthz")
async def healthz() -> Response:
    """The process lives. Says nothing of the models, since restarting the gateway would not mend those."""
    return json_response({"status": "healthy"})


@router.get("/readiness", responses={503: {"description": "No embeddings come back."}})
async def readiness(request: Request) -> Response:
    """Whether embeddings come back now, of every model that is served. Being busy makes no difference."""
    ready = await request.app.state.encoder.ready()
    return json_response({"status": "ready" if ready else "not ready"}, 200 if ready else 503)


@router.get("/info")
async def info(request: Request) -> Response:
    """Name and version, as the incumbent gives them, then what is served, and how much one request may hold."""
    return json_response(
        {
            "name": _NAME,
            "version": gateway_version(),
            "uuid": request.app.state.instance,
            "models": {name: describe(spec) for name, spec in request.app.state.encoder.specs.items()},
            "limits": request.app.state.limits,
        }
    )


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Prometheus text, of all workers together."""
    return Response(request.app.state.metrics.exposition(), headers={"content-type": CONTENT_TYPE_LATEST})


@router.get("/model/registry")
async def registry(request: Request) -> Response:
    """What is loaded, in the incumbent's form. What it knows of its own GPU memory, Triton's metrics know here."""
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
        for name, spec in request.app.state.encoder.specs.items()
    ]
    memory = ("total_vram_bytes", "gpu_memory_used", "gpu_memory_total", "torch_cuda_allocated")
    more_memory = ("torch_cuda_reserved", "torch_cuda_allocator_cache", "non_torch_gpu_memory")
    return json_response({"models": models, **dict.fromkeys((*memory, *more_memory))})


@cache
def gateway_version() -> str:
    """Read from the installation's files, so once."""
    try:
        return version("perception-encoder-server")
    except PackageNotFoundError:
        return "unknown"


def describe(spec: EncoderSpec) -> dict[str, Any]:
    """A variant's shapes, and the certificate of each tower, as the exporter wrote it."""
    towers = {"vision": spec.vision, "text": spec.text}
    common = {
        key: value
        for key, value in spec.vision.certificate.items()
        if key != "tower" and spec.text.certificate.get(key) == value
    }
    return {
        "image_size": list(spec.image_size),
        "context_length": spec.context_length,
        "embed_dim": spec.embed_dim,
        **{key: value for key, value in common.items() if key != "variant"},
        **{
            tower: {
                "version": served.version,
                "max_batch_size": served.max_batch_size,
                **{key: value for key, value in served.certificate.items() if key not in common and key != "tower"},
            }
            for tower, served in towers.items()
        },
    }
