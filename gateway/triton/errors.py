"""Translate gRPC errors to the `ServerError` branch of the gateway's error tree."""

from typing import Final

from grpc import RpcError, StatusCode

from gateway.errors import DeadlineExceeded, EncoderFault, EncoderUnavailable, Overloaded, ServerError

_BY_CODE: Final[dict[StatusCode, type[ServerError]]] = {
    StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    # The server cancelled the call: a stopping server does so to calls that it has not begun. If the gateway cancels a
    # call, grpc.aio raises CancelledError instead.
    StatusCode.CANCELLED: EncoderUnavailable,
    StatusCode.UNAVAILABLE: EncoderUnavailable,
    StatusCode.NOT_FOUND: EncoderUnavailable,
    # Triton uses these codes for a request that does not fit the model, and for errors of its backends.
    **dict.fromkeys(
        (
            StatusCode.OK,
            StatusCode.UNKNOWN,
            StatusCode.INVALID_ARGUMENT,
            StatusCode.ALREADY_EXISTS,
            StatusCode.PERMISSION_DENIED,
            StatusCode.FAILED_PRECONDITION,
            StatusCode.ABORTED,
            StatusCode.OUT_OF_RANGE,
            StatusCode.UNIMPLEMENTED,
            StatusCode.INTERNAL,
            StatusCode.DATA_LOSS,
            StatusCode.UNAUTHENTICATED,
        ),
        EncoderFault,
    ),
}
_MESSAGES: Final[dict[type[ServerError], str]] = {
    Overloaded: "The model's queue is full. Try again in a moment.",
    DeadlineExceeded: "The model did not answer in time.",
    EncoderUnavailable: "The model is not available now. Try again in a moment.",
    EncoderFault: "The model failed to answer.",
}
# gRPC's messages if no connection could be made (src/core/load_balancing), so that the call was never sent.
_UNSENT: Final = ("failed to connect to all addresses", "connections to all backends failing")


class Unsent(EncoderUnavailable):
    """The call was never sent, because no connection could be made. A retry cannot repeat work."""


def details(error: ServerError) -> str:
    """What gRPC said, for the log; the error's own text if it does not come from gRPC."""
    said = error.__cause__.details() if isinstance(error.__cause__, RpcError) else None
    return said or str(error)


def translate(code: StatusCode | None, details: str | None) -> ServerError:
    """Translate a gRPC status to an error. The error does not contain `details`, which name paths and addresses.

    Triton uses one status for several errors, which differ in the message: triton-inference-server/core returns
    UNAVAILABLE for a full queue, an expired request and a stopping server (src/scheduler_utils.cc, src/server.cc).
    """
    message = (details or "").lower()
    kind = _BY_CODE.get(code, EncoderFault) if code else EncoderFault
    if "maximum queue size" in message:
        kind = Overloaded
    elif "timeout expired" in message:
        kind = DeadlineExceeded
    elif code is StatusCode.UNAVAILABLE and any(text in message for text in _UNSENT):
        return Unsent(_MESSAGES[EncoderUnavailable])
    return kind(_MESSAGES[kind])
