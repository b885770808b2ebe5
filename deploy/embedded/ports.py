"""TCP ports: free ones for Triton's own endpoints, and whether the gateway can have the one it was asked for."""

import errno
import random
import socket
from contextlib import ExitStack
from pathlib import Path

from deploy.embedded.errors import AddressUnusable, PortTaken

LOOPBACK = "127.0.0.1"
_LOWEST = 20_000
_TRIES = 2_000


def free(count: int) -> tuple[int, ...]:
    """Loopback ports that nothing listens on, below the range the kernel hands to outgoing connections.

    Between this and Triton's own bind, an outgoing connection can therefore not take one of them.
    Raises OSError when none can be found.
    """
    ports: list[int] = []
    with ExitStack() as held:
        for port in random.sample(range(_LOWEST, _first_ephemeral()), k=_TRIES):
            listener = held.enter_context(socket.socket())
            try:
                listener.bind((LOOPBACK, port))
            except OSError:
                continue
            ports.append(port)
            if len(ports) == count:
                return tuple(ports)
    raise OSError(errno.EADDRINUSE, f"no {count} free ports on {LOOPBACK}")


def require_bindable(host: str, port: int) -> None:
    """Raises PortTaken or AddressUnusable unless a server could listen there now.

    A name such as localhost may stand for several addresses; it is enough that one of them exists.
    """
    refusals: list[OSError] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise AddressUnusable(host, port, error.strerror or str(error)) from error
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(address)
                listener.listen(1)  # a bind alone succeeds beside another socket that is bound and does not listen yet
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise PortTaken(host, port) from error
                refusals.append(error)
    if len(refusals) == len(found):
        raise AddressUnusable(host, port, refusals[0].strerror or str(refusals[0])) from refusals[0]


def _first_ephemeral() -> int:
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        first = 32_768
    return first if first > _LOWEST + _TRIES else 65_536
