"""Where an embedded Triton listens, and when it is open."""

import re
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


def test_its_quantiles_are_those_of_every_triton() -> None:
    """The dashboard shows them."""
    script = (Path(__file__).parents[3] / "deploy/triton/start.sh").read_text()
    started = re.findall(r"--metrics-config=\S+", script)
    assert len(started) == 2
    assert [argument for argument in PortEndpoints(1, 2, 3).arguments() if "metrics-config" in argument] == started
