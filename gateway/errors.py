"""All errors of the gateway, as one closed tree without HTTP. `http/error_responses.py` maps each to its status.

GatewayError
├── ClientError             the request is at fault; the message is written for the client
│   ├── InvalidInput        a value that no request may have
│   │   └── InvalidImage    an image that cannot be loaded
│   ├── UnknownVariant      a variant that is not loaded
│   ├── Unauthorized        the API key is missing or wrong
│   └── PayloadTooLarge     more bytes than one request may send
└── ServerError             the request was fine
    ├── Overloaded          too many requests or bytes in flight; the client may retry soon
    │   ├── ShareExceeded   this client has its share of them, and the rest is for other clients
    │   └── TooManyFetches  too many images are being fetched from other servers
    ├── DeadlineExceeded    the request lasted longer than its deadline
    ├── Stopping            the server is stopping; the client may use another one
    ├── EncoderUnavailable  Triton cannot be reached, or does not serve the model now
    └── EncoderFault        Triton answered with something other than embeddings
"""


class GatewayError(Exception):
    """Base of the tree. `str(error)` is safe to show to a client."""


class ClientError(GatewayError):
    """The request is at fault. A retry of the same request cannot succeed."""


class InvalidInput(ClientError):
    """A value that no request may have."""


class InvalidImage(InvalidInput):
    """An image that cannot be loaded, in the words of Roboflow's server.

    Args:
        cause: what is wrong, as a full sentence.
        index: the image's position in the request's list, from 0. None for a single image.
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
    """The API key is missing or wrong, in the words of Roboflow's server."""

    def __init__(self) -> None:
        super().__init__("Unauthorized api_key")


class PayloadTooLarge(ClientError):
    """More bytes than one request may send."""


class ServerError(GatewayError):
    """The request is valid. A retry may succeed."""


class Overloaded(ServerError):
    """Too many requests or bytes are in flight."""


class ShareExceeded(Overloaded):
    """The client has its share of the requests or bytes in flight, and the rest is for other clients."""


class TooManyFetches(Overloaded):
    """Too many images are being fetched from other servers, for this client, from this host, or in all."""


class DeadlineExceeded(ServerError):
    """The request lasted longer than its deadline."""


class Stopping(ServerError):
    """The server is stopping."""


class EncoderUnavailable(ServerError):
    """Triton cannot be reached, or does not serve the model now."""


class EncoderFault(ServerError):
    """Triton answered with something other than embeddings."""


def too_many(what: str, count: int, limit: int) -> InvalidInput:
    """The error for a request with more `what` than it may have."""
    return InvalidInput(f"Too many {what}: {count} came, at most {limit} are allowed.")
