"""One Triton at one address: the channel to it, and the calls that it answers."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gateway.encoder import Embeddings, Pixels, Tokens
from gateway.errors import EncoderFault, EncoderUnavailable
from gateway.observe.trace import Metadata
from gateway.triton import models
from gateway.triton.errors import translate

_CHANNEL: Final = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # gRPC waits 1 s, then up to 2 minutes, before it dials a lost server again: far too long for one that restarts.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.min_reconnect_backoff_ms", 2000),  # in spite of its name, how long one attempt to connect may take
    # A channel made anew is to dial anew, and not to share the old one's connection.
    ("grpc.use_local_subchannel_pool", 1),
]
_DATATYPES: Final[dict[models.InputName, str]] = {"image": "UINT8", "tokens": "INT32"}
# Towers give unit length; FP16 engines miss it by 1e-3.
_UNIT_TOLERANCE: Final = 0.01


class Connection:
    """Calls to one Triton. Make it on the loop that uses it, and close it there. Calls raise ``ServerError``.

    Args:
        target: ``host:port``.
    """

    def __init__(self, target: str) -> None:
        self._channel = grpc.aio.insecure_channel(target, options=_CHANNEL)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._calls: set[Any] = set()  # inferences under way

    async def close(self, grace: float) -> None:
        """At once if nothing is under way, else within so many seconds."""
        await self._channel.close(grace)

    async def follow(self, changed: Callable[[bool], None]) -> None:
        """Until cancelled, tells at once when the connection is there (True) and when it cannot be had (False)."""
        while True:
            state = self._channel.get_state(try_to_connect=True)
            if state is grpc.ChannelConnectivity.READY:
                changed(True)
            elif state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                changed(False)
            # What is idle or connecting may only be between two connections: Triton can bound how long each lasts.
            await self._channel.wait_for_state_change(state)

    async def connected(self, seconds: float) -> bool:
        """Whether there is a connection, within so many seconds."""
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
        """Unit embeddings float32 [N, D] of a batch of N, which goes to the model as the input ``name``.

        Args:
            version: of the model; another one's answers would be of another space.
            seconds: that the call may last.

        Raises:
            Unsent: no connection could be made.
            EncoderUnavailable: the connection was lost, or ``abandon`` was called, or Triton stops.
        """
        request = service_pb2.ModelInferRequest(
            model_name=model,
            model_version=version,
            inputs=[{"name": name, "datatype": _DATATYPES[name], "shape": batch.shape}],
            outputs=[{"name": "embedding"}],
            raw_input_contents=[batch.tobytes()],
        )
        call = self._stub.ModelInfer(request, timeout=seconds, metadata=metadata)
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

    def abandon(self) -> None:
        """Ends the inferences under way: they raise ``EncoderUnavailable``."""
        for call in self._calls:
            call.cancel()

    async def served(self, seconds: float) -> dict[str, str]:
        """Ready models and their latest version."""
        try:
            index = await self._stub.RepositoryIndex(service_pb2.RepositoryIndexRequest(ready=True), timeout=seconds)
        except grpc.RpcError as error:
            raise _translated(error) from error
        ready = [model for model in index.models if model.state == "READY"]
        return {model.name: model.version for model in sorted(ready, key=lambda model: models.number(model.version))}

    async def configs(self, served: dict[str, str], seconds: float) -> dict[str, Any]:
        """Triton's ``ModelConfig`` of both towers of each variant among these models."""
        names = [variant + tower for variant in models.variants(served) for tower in (models.VISION, models.TEXT)]
        try:
            return {
                name: (
                    await self._stub.ModelConfig(
                        service_pb2.ModelConfigRequest(name=name, version=served[name]), timeout=seconds
                    )
                ).config
                for name in names
            }
        except grpc.RpcError as error:
            raise _translated(error) from error


def _translated(error: grpc.RpcError) -> Exception:
    return translate(error.code(), error.details())


def _embeddings(reply: Any, model: str, count: int, embed_dim: int) -> Embeddings:
    """The reply's only output.

    Raises:
        EncoderFault: it is not what the model's configuration promises.
    """
    declared = [(out.name, out.datatype, tuple(out.shape)) for out in reply.outputs]
    raw = reply.raw_output_contents
    if declared != [("embedding", "FP32", (count, embed_dim))] or [len(r) for r in raw] != [count * embed_dim * 4]:
        raise EncoderFault(f"Model {model} answered with another shape or type than it declares.")
    embeddings = np.frombuffer(raw[0], np.float32).reshape(count, embed_dim)
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.vecdot(embeddings, embeddings).tolist()
    if not all(abs(square - 1) <= 2 * _UNIT_TOLERANCE for square in squares):  # nor does what is no number pass
        what = "of another length than one" if np.isfinite(embeddings).all() else "that are not numbers"
        raise EncoderFault(f"Model {model} answered with embeddings {what}.")
    return embeddings
