"""What gRPC raises, as the ``ServerError`` branch of the gateway's own tree."""

from typing import Final

import grpc

from gateway.errors import DeadlineExceeded, EncoderFault, EncoderUnavailable, Overloaded, ServerError

_C = grpc.StatusCode

_BY_CODE: Final[dict[grpc.StatusCode, type[ServerError]]] = {
    _C.RESOURCE_EXHAUSTED: Overloaded,
    _C.DEADLINE_EXCEEDED: DeadlineExceeded,
    # Nobody here cancelled, or that would be a CancelledError: a server that stops says so to what it has not begun.
    _C.CANCELLED: EncoderUnavailable,
    _C.UNAVAILABLE: EncoderUnavailable,
    _C.NOT_FOUND: EncoderUnavailable,
    # Triton says these of a request that does not fit the model, and of whatever its backend raised.
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
# gRPC's own words where no connection was made (src/core/load_balancing): the call has not left this machine.
_UNSENT: Final = ("failed to connect to all addresses", "connections to all backends failing")


class Unsent(EncoderUnavailable):
    """No connection could be made, so that Triton cannot have begun: another try repeats nothing."""


def translate(code: grpc.StatusCode | None, details: str | None) -> ServerError:
    """The error for a gRPC status. ``details`` are for our eyes only: they name paths and addresses.

    One status has several meanings in Triton, told apart by its message: triton-inference-server/core says UNAVAILABLE
    for a full queue, an expired request and a stopping server alike (src/scheduler_utils.cc, src/server.cc).
    """
    words = (details or "").lower()
    kind = _BY_CODE.get(code, EncoderFault) if code else EncoderFault
    if "maximum queue size" in words:
        kind = Overloaded
    elif "timeout expired" in words:
        kind = DeadlineExceeded
    elif code is _C.UNAVAILABLE and any(text in words for text in _UNSENT):
        return Unsent(_MESSAGES[EncoderUnavailable])
    return kind(_MESSAGES[kind])
