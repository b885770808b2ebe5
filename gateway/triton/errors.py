"""What gRPC and tritonclient raise, as the ``ServerError`` branch of the gateway's own tree."""

import contextlib
from collections.abc import Iterator

import grpc
from tritonclient.utils import InferenceServerException

from gateway.errors import DeadlineExceeded, EncoderFault, EncoderUnavailable, Overloaded, ServerError


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
