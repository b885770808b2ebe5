"""Bind the sockets that a server listens on: the same ones for any number of worker processes."""

import errno
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Final

# One socket per IP version, because a client's IPv4 address would read ::ffff:192.0.2.1 on a socket for both.
_BOTH: Final = {"::": ("::", "0.0.0.0")}
# uvloop accepts one connection of a listener in each round of the event loop. In a burst of thousands of connections, a
# new client waited in the kernel's backlog for 17 s, where admission control could refuse none of the others. Each copy
# costs 3 us for each new connection.
_ACCEPTED_AT_ONCE: Final = 16
# This machine does not have such an address, or has no IPv6.
_ABSENT: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def bind(host: str, port: int) -> list[socket.socket]:
    """Bind a socket to each address of a host, without listening yet.

    Args:
        host: an IP address or a name. `::` is every IPv6 and IPv4 address, `0.0.0.0` every IPv4 address. A name such as
            localhost may have several addresses. One that this machine has is enough.
        port: the port; 0 takes a free one, the same for each address.

    Raises:
        OSError: another program listens there (EADDRINUSE), or none of the addresses can be used.
    """
    refused: OSError | None = None
    with ExitStack() as opened:
        bound: list[socket.socket] = []
        for family, address in _addresses(host, port):
            try:
                listener = opened.enter_context(socket.socket(family, socket.SOCK_STREAM))
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                free = bound[0].getsockname()[1] if bound else port
                listener.bind((address[0], free, *address[2:]))
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
                refused = error
            else:
                bound.append(listener)
        if not bound:
            raise refused or OSError(errno.EADDRNOTAVAIL, "there is no such address")
        opened.pop_all()
        return bound


def with_copies(listeners: Sequence[socket.socket], processes: int) -> list[socket.socket]:
    """Duplicate listeners, so that the event loop accepts several connections in each of its rounds.

    Args:
        processes: how many processes accept from the same listeners. They share the number.

    Returns:
        The listeners and their copies.
    """
    count = max(1, _ACCEPTED_AT_ONCE // processes)
    return [copy for listener in listeners for copy in (listener, *(listener.dup() for _ in range(count - 1)))]


def _addresses(host: str, port: int) -> list[tuple[int, tuple[Any, ...]]]:
    found: list[tuple[int, tuple[Any, ...]]] = [
        (int(family), address)
        for name in _BOTH.get(host, (host,))
        for family, _, _, _, address in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    ]
    return list(dict.fromkeys(found))  # /etc/hosts may list a name twice
