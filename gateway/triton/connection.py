"""One Triton at one address: the channel to it, and the calls that it answers."""

from typing import Any, Final

import numpy as np
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.grpc.aio import InferenceServerClient

from gateway.encoder import Embeddings, Pixels, Tokens
from gateway.errors import EncoderFault
from gateway.triton import models
from gateway.triton.errors import translated_errors

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


class Connection:
    """Calls to one Triton. Make it on the loop that uses it, and close it there. Every call raises ``ServerError``.

    Args:
        address: such as ``127.0.0.1:8001``.
        call_seconds: no call may last longer.
    """

    def __init__(self, address: str, call_seconds: float) -> None:
        self.address = address
        self._call_seconds = call_seconds
        self._client = InferenceServerClient(address, channel_args=_CHANNEL)

    async def close(self) -> None:
        await self._client.close()

    async def infer(self, model: str, name: str, datatype: str, batch: Pixels | Tokens, embed_dim: int) -> Embeddings:
        """Embeddings float32 [N, D] of a batch of N, which goes to the model as the input ``name``."""
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

    async def served(self) -> dict[str, str]:
        """Ready models and their versions."""
        with translated_errors():
            index = await self._client.get_model_repository_index(client_timeout=self._call_seconds)
        return {m.name: m.version for m in index.models if m.state == "READY"}

    async def configs(self, served: dict[str, str]) -> dict[str, Any]:
        """Triton's ``ModelConfig`` of both towers of each variant among these models."""
        names = [v + tower for v in models.variants(served) for tower in (models.VISION, models.TEXT)]
        with translated_errors():
            return {
                name: (await self._client.get_model_config(name, client_timeout=self._call_seconds)).config
                for name in names
            }
