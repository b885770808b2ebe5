"""Everything that can go wrong, as one closed tree. Knows nothing of HTTP: http/errors.py gives each its status.

GatewayError
├── ClientError             the request itself is at fault; its message is written for the client
│   ├── InvalidInput        a value that no request may have
│   │   └── InvalidImage    an image that cannot be loaded
│   ├── UnknownVariant      a variant that is not loaded
│   ├── Unauthorized        no API key, or a wrong one, where one is needed
│   └── PayloadTooLarge     more bytes than one request may send
└── ServerError             the request was fine
    ├── Overloaded          more in flight than allowed; try again soon
    ├── DeadlineExceeded    the answer took longer than the request may last
    ├── Stopping            the server is being stopped; another one may be asked
    ├── EncoderUnavailable  Triton cannot be reached, or serves no such model now
    └── EncoderFault        Triton answered, but not with embeddings
"""


class GatewayError(Exception):
    """Base of the tree. ``str(error)`` is safe to show to a client."""


class ClientError(GatewayError):
    """The request is at fault, and repeating it unchanged cannot help."""


class InvalidInput(ClientError):
    """A value that no request may have."""


class InvalidImage(InvalidInput):
    """An image that cannot be loaded, worded as Roboflow's server words it.

    Args:
        cause: what is wrong, a full sentence.
        index: the image's place in the request's list, from 0.
    """

    def __init__(self, cause: str, index: int | None = None) -> None:
        super().__init__(f"Could not load input image. Cause: {cause}")
        self.cause = cause
        self.index = index


class UnknownVariant(ClientError):
    """A variant that is not loaded."""

    def __init__(self, variant: str, loaded: list[str]) -> None:
        known = ", ".join(loaded) if loaded else "none"
        super().__init__(f"Model {variant[:100]!r} is not loaded here. Loaded: {known}.")


class Unauthorized(ClientError):
    """No API key, or a wrong one, where one is needed; worded as Roboflow's server words it."""

    def __init__(self) -> None:
        super().__init__("Unauthorized api_key")


class PayloadTooLarge(ClientError):
    """More bytes than one request may send."""


class ServerError(GatewayError):
    """The request is fine; another try may succeed."""


class Overloaded(ServerError):
    """More in flight than allowed."""


class DeadlineExceeded(ServerError):
    """The answer took longer than the request may last."""


class Stopping(ServerError):
    """The server is being stopped."""


class EncoderUnavailable(ServerError):
    """Triton cannot be reached, or serves no such model now."""


class EncoderFault(ServerError):
    """Triton answered, but not with embeddings."""
