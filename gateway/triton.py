"""The encoder that is Triton: the only module that knows tritonclient and gRPC.

A variant V is served when the models ``V-vision`` and ``V-text`` are ready. Shapes, limits and certificates come from
the models' own configuration, so nothing about a variant is written down here.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Final, Self

import grpc
import numpy as np
from tritonclient.grpc import InferInput, InferRequestedOutput, model_config_pb2
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from gateway.encoder import Embeddings, EncoderSpec, Pixels, Tokens, TowerSpec
from gateway.errors import DeadlineExceeded, EncoderFault, EncoderUnavailable, Overloaded, ServerError

_VISION: Final = "-vision"
_TEXT: Final = "-text"

# Passing any channel argument replaces all of tritonclient's defaults, the message limits among them.
_CHANNEL: Final = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # gRPC waits 1 s, then up to 2 minutes, before it dials a lost server again: far too long for one that restarts.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Of several addresses behind one name, use all.
    ("grpc.lb_policy_name", "round_robin"),
]

_log = logging.getLogger(__name__)


class TritonEncoder:
    """Implements the ``Encoder`` protocol over gRPC. An async context manager: enter it on the loop that uses it.

    Args:
        url: gRPC address, such as ``127.0.0.1:8001`` or ``dns:///triton:8001``.
        call_seconds: no call may last longer.
        watch_seconds: how often to look for models that appeared, changed or went away.
    """

    def __init__(self, url: str, call_seconds: float = 30, watch_seconds: float = 1) -> None:
        self._url = url
        self._call_seconds = call_seconds
        self._watch_seconds = watch_seconds
        self._specs: dict[str, EncoderSpec] = {}
        self._served: dict[str, str] = {}  # ready models and their versions, as of the last look

    async def __aenter__(self) -> Self:
        self._client = InferenceServerClient(self._url, channel_args=_CHANNEL)
        await self._look()
        self._watcher = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._watcher
        await self._client.close()

    @property
    def specs(self) -> Mapping[str, EncoderSpec]:
        return self._specs

    async def encode_images(self, spec: EncoderSpec, images: Pixels) -> Embeddings:
        return await self._infer(spec.variant + _VISION, "image", "UINT8", images, spec.embed_dim)

    async def encode_texts(self, spec: EncoderSpec, tokens: Tokens) -> Embeddings:
        return await self._infer(spec.variant + _TEXT, "tokens", "INT32", tokens, spec.embed_dim)

    async def _infer(self, model: str, name: str, datatype: str, batch: Pixels | Tokens, embed_dim: int) -> Embeddings:
        tensor = InferInput(name, list(batch.shape), datatype)
        tensor.set_data_from_numpy(batch)
        with translated_errors():
            result = await self._client.infer(
                model, [tensor], outputs=[InferRequestedOutput("embedding")], client_timeout=self._call_seconds
            )
        embeddings = result.as_numpy("embedding")
        if embeddings is None or embeddings.shape != (len(batch), embed_dim) or embeddings.dtype != np.float32:
            raise EncoderFault(f"Model {model} answered with another shape or type than it declares.")
        if not np.isfinite(embeddings).all():
            raise EncoderFault(f"Model {model} answered with values that are not numbers.")
        return embeddings  # type: ignore[no-any-return]  # checked above

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._watch_seconds)
            await self._look()

    async def _look(self) -> None:
        """Brings ``specs`` up to date with what Triton serves now."""
        try:
            with translated_errors():
                index = await self._client.get_model_repository_index(client_timeout=self._call_seconds)
                served = {m.name: m.version for m in index.models if m.state == "READY"}
                if served != self._served:
                    specs = await self._describe(served)
                    _log.info("Triton at %s serves %s", self._url, ", ".join(specs) or "no variant")
                    self._specs, self._served = specs, served
        except EncoderUnavailable as error:
            if self._specs:
                _log.warning("Triton at %s is gone: %s", self._url, error)
            self._specs, self._served = {}, {}
        except ServerError as error:
            # Busy, perhaps; that alone takes nothing out of service.
            _log.warning("Triton at %s does not say what it serves: %s", self._url, error)

    async def _describe(self, served: Mapping[str, str]) -> dict[str, EncoderSpec]:
        specs = {}
        for name in sorted(served):
            variant = name.removesuffix(_VISION)
            if variant == name or variant + _TEXT not in served:
                continue
            configs = {}
            for tower in (_VISION, _TEXT):
                response = await self._client.get_model_config(variant + tower, client_timeout=self._call_seconds)
                configs[tower] = response.config
            try:
                specs[variant] = _spec(variant, configs[_VISION], configs[_TEXT], served)
            except ValueError as error:
                _log.error("Triton's models of %s are not what this gateway serves: %s", variant, error)
        return specs


def _spec(variant: str, vision: Any, text: Any, served: Mapping[str, str]) -> EncoderSpec:
    """What two model configurations (Triton's ``ModelConfig``) say of a variant.

    Raises:
        ValueError: they are not the two towers that the exporter makes: names, types, dimensions.
    """
    height, width, channels = _dims(vision, vision.input, "image", "TYPE_UINT8", rank=3)
    (context_length,) = _dims(text, text.input, "tokens", "TYPE_INT32", rank=1)
    (embed_dim,) = _dims(vision, vision.output, "embedding", "TYPE_FP32", rank=1)
    (text_embed_dim,) = _dims(text, text.output, "embedding", "TYPE_FP32", rank=1)
    if channels != 3:
        raise ValueError(f"{vision.name}: image has {channels} channels, not 3")
    if embed_dim != text_embed_dim:
        raise ValueError(f"{vision.name} embeds in {embed_dim} dimensions, {text.name} in {text_embed_dim}")
    return EncoderSpec(
        variant, (height, width), context_length, embed_dim, _tower(vision, served), _tower(text, served)
    )


def _tower(model: Any, served: Mapping[str, str]) -> TowerSpec:
    certificate = {key: parameter.string_value for key, parameter in sorted(model.parameters.items())}
    return TowerSpec(model.max_batch_size, served[model.name], certificate)


def _dims(model: Any, tensors: Any, name: str, data_type: str, rank: int) -> tuple[int, ...]:
    """Dimensions of the model's tensor of that name, the batch axis left out."""
    tensor = next((tensor for tensor in tensors if tensor.name == name), None)
    if tensor is None:
        raise ValueError(f"{model.name} has no tensor `{name}` where one is expected")
    dims = tuple(tensor.dims)
    kind = model_config_pb2.DataType.Name(tensor.data_type)
    if kind != data_type or len(dims) != rank or min(dims) <= 0 or model.max_batch_size < 1:
        raise ValueError(f"{model.name}: `{name}` is {kind} {list(dims)}, batches of up to {model.max_batch_size}")
    return dims


@contextlib.contextmanager
def translated_errors() -> Iterator[None]:
    """Turns what gRPC and tritonclient raise into the ``ServerError`` branch."""
    try:
        yield
    except InferenceServerException as error:
        raise translate(error.status(), error.message()) from error
    except grpc.RpcError as error:
        code = error.code() if callable(getattr(error, "code", None)) else None
        raise translate(str(code), str(error)) from error


def translate(status: str | None, message: str) -> ServerError:
    """The error for a gRPC status, given as tritonclient does: ``"StatusCode.UNAVAILABLE"``.

    One status has several meanings in Triton, told apart by its message: triton-inference-server/core says UNAVAILABLE
    for a full queue, an expired request and a stopping server alike (src/scheduler_utils.cc, src/server.cc).
    """
    code = (status or "").removeprefix("StatusCode.")
    if code == "RESOURCE_EXHAUSTED" or "maximum queue size" in message.lower():
        return Overloaded("The model's queue is full. Try again in a moment.")
    if code in ("DEADLINE_EXCEEDED", "CANCELLED") or "timeout expired" in message.lower():
        return DeadlineExceeded("The model did not answer in time.")
    if code in ("UNAVAILABLE", "NOT_FOUND"):
        return EncoderUnavailable("The model is not available now. Try again in a moment.")
    return EncoderFault("The model failed to answer.")
