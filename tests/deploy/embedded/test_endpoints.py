"""Where an embedded Triton listens, and when it is open."""

import socket
from contextlib import ExitStack
from pathlib import Path

from deploy.embedded.endpoints import PortEndpoints, SocketEndpoint
from deploy.embedded.ports import LOOPBACK


def test_all_is_open_when_http_and_metrics_both_accept_connections(tmp_path: Path) -> None:
    """Triton opens gRPC first, so a reply over gRPC does not say that the others are open."""
    with ExitStack() as stack:
        http, metrics = (stack.enter_context(socket.socket()) for _ in range(2))
        for bound in (http, metrics):
            bound.bind((LOOPBACK, 0))
        listening = PortEndpoints(http.getsockname()[1], 1, metrics.getsockname()[1])
        assert not listening.all_open()
        http.listen()
        assert not listening.all_open()
        metrics.listen()
        assert listening.all_open()
    assert SocketEndpoint(tmp_path).all_open()
