"""A gRPC channel to one Triton, and the calls that the gateway makes over it."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gateway.encoder import Embeddings, Pixels, Tokens
from gateway.errors import EncoderFault, EncoderUnavailable
from gateway.observe.tracing import Metadata
from gateway.triton import infer_request, models
from gateway.triton.channel import Access
from gateway.triton.errors import translate

_MODEL_INFER: Final = "/inference.GRPCInferenceService/ModelInfer"
# Towers return unit vectors. FP16 engines deviate from unit length by 1e-3.
_UNIT_TOLERANCE: Final = 0.01


class Connection:
    """Calls one Triton. Create and close it on the event loop that uses it. All calls raise only `ServerError`.

    Args:
        target: `host:port`, or `unix:/path`.
        host: the host that Triton's certificate must name.
        access: TLS and headers.
    """

    def __init__(self, target: str, host: str = "", access: Access | None = None) -> None:
        access = access or Access()
        self.target = target
        self._headers = access.headers
        self._channel = access.open(target, host)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        # The stub's own method would serialize a message.
        self._infer = self._channel.unary_unary(
            _MODEL_INFER, response_deserializer=service_pb2.ModelInferResponse.FromString
        )
        self._calls: set[Any] = set()  # inference calls in flight

    async def close(self, grace: float) -> None:
        """Close the channel when no call is in flight, and after `grace` seconds at the latest."""
        await self._channel.close(grace)

    async def watch(self, on_change: Callable[[bool], None]) -> None:
        """Keep connecting until cancelled. Calls `on_change(True)` once connected, `on_change(False)` on failure."""
        while True:
            state = self._channel.get_state(try_to_connect=True)
            if state is grpc.ChannelConnectivity.READY:
                on_change(True)
            elif state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                on_change(False)
            # IDLE and CONNECTING are not failures: Triton may close an old connection, and gRPC then reconnects.
            await self._channel.wait_for_state_change(state)

    async def wait_connected(self, seconds: float) -> bool:
        """Wait up to `seconds` for a connection. Returns whether there is one."""
        try:
            async with asyncio.timeout(seconds):
                await self._channel.channel_ready()
        except TimeoutError:
            return False
        return True

    async def infer(
        self,
        model: str,
        version: str,
        name: models.InputName,
        batch: Pixels | Tokens,
        embed_dim: int,
        seconds: float,
        metadata: Metadata | None = None,
    ) -> Embeddings:
        """Run one model on a batch of N items.

        Args:
            model: the name of the model.
            version: the version of the model. Another version may embed into another space.
            name: the name of the model's input.
            batch: the value of the input: uint8 [N, H, W, 3] or int32 [N, S].
            embed_dim: the dimension D that the model declares.
            seconds: the deadline of the call.
            metadata: gRPC metadata to send, such as a trace context.

        Returns:
            Unit embeddings, float32 [N, D].

        Raises:
            Unsent: no connection could be made.
            EncoderUnavailable: the connection was lost, Triton is stopping, or `cancel_calls` was called.
            EncoderFault: the reply does not match the model's configuration.
            ServerError: Triton reports another error.
        """
        if self._headers:
            metadata = (*self._headers, *(metadata or ()))
        call = self._infer(infer_request.serialize(model, version, name, batch), timeout=seconds, metadata=metadata)
        self._calls.add(call)
        try:
            reply = await call
        except grpc.RpcError as error:
            raise _translated(error) from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise EncoderUnavailable("The model does not answer. Try again in a moment.") from None
        finally:
            self._calls.discard(call)
        return _embeddings(reply, model, len(batch), embed_dim)

    def cancel_calls(self) -> None:
        """Cancel the inference calls in flight. `infer` then raises `EncoderUnavailable`."""
        for call in self._calls:
            call.cancel()

    async def ready_models(self, seconds: float) -> dict[str, str]:
        """The names of the ready models, with the latest ready version of each."""
        try:
            index = await self._stub.RepositoryIndex(
                service_pb2.RepositoryIndexRequest(ready=True), timeout=seconds, metadata=self._headers
            )
        except grpc.RpcError as error:
            raise _translated(error) from error
        ready = [model for model in index.models if model.state == "READY"]
        return {
            model.name: model.version for model in sorted(ready, key=lambda model: models.version_number(model.version))
        }

    async def model_configs(self, ready_models: dict[str, str], seconds: float) -> dict[str, Any]:
        """Read Triton's `ModelConfig` of each tower of each variant in `ready_models`."""
        names = [variant + tower for variant in models.variants(ready_models) for tower in (models.VISION, models.TEXT)]
        try:
            return {
                name: (
                    await self._stub.ModelConfig(
                        service_pb2.ModelConfigRequest(name=name, version=ready_models[name]),
                        timeout=seconds,
                        metadata=self._headers,
                    )
                ).config
                for name in names
            }
        except grpc.RpcError as error:
            raise _translated(error) from error


def _translated(error: grpc.RpcError) -> Exception:
    return translate(error.code(), error.details())


def _embeddings(reply: Any, model: str, count: int, embed_dim: int) -> Embeddings:
    """Read the embeddings from a reply.

    Raises:
        EncoderFault: the reply does not match the model's configuration, or an embedding is not a unit vector.
    """
    outputs, raw = reply.outputs, reply.raw_output_contents
    if not (len(outputs) == len(raw) == 1 and _matches(outputs[0], raw[0], count, embed_dim)):
        raise EncoderFault(f"Model {model} answered with another shape or type than it declares.")
    embeddings = np.frombuffer(raw[0], np.float32).reshape(count, embed_dim)
    squares = [float(row.dot(row)) for row in embeddings]  # unlike `np.vecdot`, without warnings
    if not all(abs(square - 1) <= 2 * _UNIT_TOLERANCE for square in squares):  # false for NaN, so NaN is refused too
        what = "of another length than one" if np.isfinite(embeddings).all() else "that are not numbers"
        raise EncoderFault(f"Model {model} answered with embeddings {what}.")
    return embeddings


def _matches(output: Any, data: bytes, count: int, embed_dim: int) -> bool:
    """Whether an output is what the model's configuration declares."""
    return bool(
        output.name == "embedding"
        and output.datatype == "FP32"
        and output.shape == [count, embed_dim]
        and len(data) == count * embed_dim * 4
    )
