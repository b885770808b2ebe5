"""Where an embedded Triton listens: on a Unix socket for gRPC alone, or on ports of this machine."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.embedded import ports
from deploy.embedded.ports import LOOPBACK

_SOCKET_NAME: Final = "t.sock"
_SOCKET_PORT: Final = 1  # Triton adds `:port` to every address, so this becomes part of the file's name.
_CONNECT_SECONDS: Final = 1.0
_QUANTILES: Final = "0.5:0.01,0.99:0.001"  # the same as in deploy/triton/start.sh: the dashboard shows them


@dataclass(frozen=True)
class SocketEndpoint:
    """gRPC on a Unix socket. Triton's HTTP and metrics endpoints know no sockets, so they stay closed.

    Args:
        directory: where Triton makes the socket. Its mode decides who can connect.
    """

    directory: Path

    @property
    def grpc(self) -> str:
        """The gRPC target."""
        return f"unix:{self.directory / _SOCKET_NAME}:{_SOCKET_PORT}"

    def all_open(self) -> bool:
        """Return whether every endpoint beside gRPC accepts connections: there are none."""
        return True

    def arguments(self) -> list[str]:
        """Return Triton's command-line arguments."""
        return [
            "--allow-http=false",
            "--allow-metrics=false",
            f"--grpc-address=unix:{self.directory / _SOCKET_NAME}",
            f"--grpc-port={_SOCKET_PORT}",
        ]


@dataclass(frozen=True)
class PortEndpoints:
    """HTTP, gRPC and metrics on ports. Every user of this machine can connect.

    Args:
        http_port: the port for HTTP on loopback.
        grpc_port: the port for gRPC.
        metrics_port: the port for metrics on loopback.
        grpc_host: the address for gRPC.
    """

    http_port: int
    grpc_port: int
    metrics_port: int
    grpc_host: str = LOOPBACK

    @property
    def grpc(self) -> str:
        """The gRPC target."""
        return f"{self.grpc_host}:{self.grpc_port}"

    @property
    def http(self) -> str:
        """The HTTP endpoint, `host:port`."""
        return f"{LOOPBACK}:{self.http_port}"

    @property
    def metrics(self) -> str:
        """The metrics endpoint, `host:port`."""
        return f"{LOOPBACK}:{self.metrics_port}"

    def all_open(self) -> bool:
        """Return whether every endpoint beside gRPC accepts connections. Triton opens gRPC first."""
        return all(_accepts_connections(port) for port in (self.http_port, self.metrics_port))

    def arguments(self) -> list[str]:
        """Return Triton's command-line arguments."""
        return [
            f"--http-address={LOOPBACK}",
            f"--http-port={self.http_port}",
            f"--grpc-address={self.grpc_host}",
            f"--grpc-port={self.grpc_port}",
            f"--metrics-address={LOOPBACK}",
            f"--metrics-port={self.metrics_port}",
            "--metrics-config=summary_latencies=true",
            f"--metrics-config=summary_quantiles={_QUANTILES}",
        ]


Endpoints = SocketEndpoint | PortEndpoints


def _accepts_connections(port: int) -> bool:
    try:
        with socket.create_connection((LOOPBACK, port), timeout=_CONNECT_SECONDS):
            return True
    except OSError:
        return False


def on_ports(requested: Sequence[int]) -> PortEndpoints:
    """Return endpoints on loopback.

    Args:
        requested: the ports for HTTP, gRPC and metrics. 0 takes a free one.

    Raises:
        OSError: there are not enough free ports.
    """
    free = ports.free(len(requested))
    http, grpc, metrics = (port or other for port, other in zip(requested, free, strict=True))
    return PortEndpoints(http, grpc, metrics)
