"""TCP ports: find free ones for Triton, and check that the gateway can listen on the requested one."""

import errno
import random
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from deploy.embedded.errors import AddressUnusable, PortTaken
from gateway import listening

LOOPBACK: Final = "127.0.0.1"
_LOWEST: Final = 20_000
_TRIES: Final = 2_000


def free(count: int) -> tuple[int, ...]:
    """Return loopback ports that nothing listens on.

    They lie below the range that the kernel uses for outgoing connections, so that no outgoing connection can take one
    of them before Triton binds it.

    Raises:
        OSError: there are not enough free ports.
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


def require_bindable(host: str, port: int, option: str = "--port") -> None:
    """Check that a server could listen on an address now.

    Args:
        host: the address.
        port: the port; 0 stands for any.
        option: the option of the command line that names the port, for the error.

    Raises:
        PortTaken: another program listens there.
        AddressUnusable: none of the addresses can be used.
    """
    with ExitStack() as held:
        try:
            for listener in listening.bind(host, port):
                # A bind alone succeeds even if another socket is bound there that does not listen yet.
                held.enter_context(listener).listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortTaken(host, port, option) from error
            raise AddressUnusable(host, port, error.strerror or str(error)) from error


def _first_ephemeral() -> int:
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        first = 32_768
    return first if first > _LOWEST + _TRIES else 65_536
