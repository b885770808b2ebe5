"""The gRPC options of every channel to a Triton, also of those that `deploy` opens."""

from typing import Final

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
]
