"""Open gRPC channels to Tritons."""

from dataclasses import dataclass
from typing import Any, Final

import grpc

OPTIONS: Final = [
    # Otherwise gRPC sends even calls to 127.0.0.1 to the proxy that `http_proxy` or `https_proxy` names.
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # By default, gRPC waits 1 s and later up to 2 minutes before it reconnects, which is too long after a restart.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.min_reconnect_backoff_ms", 2000),  # despite the name, the timeout of one connection attempt
    # A new channel opens a new connection instead of reusing the connection of an old channel to the same target.
    ("grpc.use_local_subchannel_pool", 1),
    # A call takes a twelfth less CPU without gRPC's optional filters. Of those, the gateway needs the deadlines.
    ("grpc.minimal_stack", 1),
    ("grpc.enable_deadline_checking", 1),
]
"""The options of every channel to a Triton, also of those that `deploy` opens."""


@dataclass(frozen=True)
class Access:
    """How the gateway and Triton prove to each other who they are. The default is plain text without headers."""

    credentials: grpc.ChannelCredentials | None = None
    """TLS. None means plain text."""
    server_name: str | None = None
    """The name that Triton's certificate must have. None means the host of the address."""
    headers: tuple[tuple[str, str], ...] = ()
    """gRPC metadata of every call."""

    def open(self, target: str, host: str) -> Any:
        """Open a channel on the running event loop.

        Args:
            target: `host:port`, or `unix:/path`.
            host: the host that the certificate must name, because `target` may be an address that a name resolved to.
        """
        if self.credentials is None:
            return grpc.aio.insecure_channel(target, options=OPTIONS)
        name = ("grpc.ssl_target_name_override", self.server_name or host)
        return grpc.aio.secure_channel(target, self.credentials, options=[*OPTIONS, name])
