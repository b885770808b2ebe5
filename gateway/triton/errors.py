"""Translate gRPC errors to the `ServerError` branch of the gateway's error tree."""

from typing import Final

import grpc

from gateway.errors import DeadlineExceeded, EncoderFault, EncoderUnavailable, Overloaded, ServerError

_C = grpc.StatusCode

_BY_CODE: Final[dict[grpc.StatusCode, type[ServerError]]] = {
    _C.RESOURCE_EXHAUSTED: Overloaded,
    _C.DEADLINE_EXCEEDED: DeadlineExceeded,
    # The server cancelled the call: a stopping server does so to calls that it has not begun. If the gateway cancels a
    # call, grpc.aio raises CancelledError instead.
    _C.CANCELLED: EncoderUnavailable,
    _C.UNAVAILABLE: EncoderUnavailable,
    _C.NOT_FOUND: EncoderUnavailable,
    # Triton uses these codes for a request that does not fit the model, and for errors of its backends.
    **dict.fromkeys(
        (
            _C.OK,
            _C.UNKNOWN,
            _C.INVALID_ARGUMENT,
            _C.ALREADY_EXISTS,
            _C.PERMISSION_DENIED,
            _C.FAILED_PRECONDITION,
            _C.ABORTED,
            _C.OUT_OF_RANGE,
            _C.UNIMPLEMENTED,
            _C.INTERNAL,
            _C.DATA_LOSS,
            _C.UNAUTHENTICATED,
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


def translate(code: grpc.StatusCode | None, details: str | None) -> ServerError:
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
    elif code is _C.UNAVAILABLE and any(text in message for text in _UNSENT):
        return Unsent(_MESSAGES[EncoderUnavailable])
    return kind(_MESSAGES[kind])
