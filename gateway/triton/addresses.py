"""Parse `PE_TRITON_URL`, the addresses of one or several Tritons, and resolve them to gRPC targets.

addresses = entry *("," entry)
entry     = host ":" port             one Triton. gRPC resolves a name. An IPv6 address is in brackets.
          / "dns:///" name ":" port   one Triton at each address of the name. The addresses may change.
          / "unix:" path              one Triton on a Unix socket of this machine. The path is absolute.
"""

import asyncio
import ipaddress
import os
import re
import socket
from collections.abc import Sequence
from typing import Final, NamedTuple

_DNS: Final = "dns:///"
_UNIX: Final = "unix:"
_ENTRY: Final = re.compile(
    rf"(?P<dns>{_DNS})?(\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s/@:\[\]]+)):(?P<port>[0-9]{{1,5}})"
)
# gRPC reads the path as part of a URI, so `%`, `?`, `#` and spaces would need to be escaped.
_SOCKET: Final = re.compile(rf"{_UNIX}(//)?(?P<path>/(?!/)[A-Za-z0-9_.~:@+=/-]+)")
# Linux keeps the path in 108 bytes with a zero at the end (`sun_path` in unix(7)).
MAX_PATH_BYTES: Final = 107


class UnixSocket(NamedTuple):
    """An entry of the list that names a Unix socket by its absolute path."""

    path: str

    def __str__(self) -> str:
        return _UNIX + self.path


class Address(NamedTuple):
    """An entry of the list that names a host. `dns` means that there is a Triton at each address of the host."""

    host: str
    port: int
    dns: bool

    def __str__(self) -> str:
        return (_DNS if self.dns else "") + target(self.host, self.port)


Entry = Address | UnixSocket


def parse(text: str) -> list[Entry]:
    """Parse the list. Returns the entries in order, without duplicates.

    Raises:
        ValueError: the text does not match the grammar.
    """
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    if not entries:
        raise ValueError("PE_TRITON_URL is empty; it is host:port, or several, or dns:///name:port, or unix:/path")
    return list(dict.fromkeys(map(_parse, entries)))


async def resolve(addresses: Sequence[Entry]) -> dict[str, str]:
    """Look up the `dns:///` entries.

    Returns:
        The host of each gRPC target, `host:port` or `unix:/path`. A target that was looked up has the name as its host.

    Raises:
        OSError: a lookup failed.
    """
    hosts: dict[str, str] = {}
    for address in addresses:
        if isinstance(address, UnixSocket):
            hosts[str(address)] = "localhost"
            continue
        host, port, dns = address
        if not dns:
            hosts[str(address)] = host
            continue
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for resolved in sorted(target(str(sockaddr[0]), port) for *_, sockaddr in found):
            hosts.setdefault(resolved, host)
    return hosts


def target(host: str, port: int) -> str:
    """Format an address for gRPC, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _parse(entry: str) -> Entry:
    if socket_parts := _SOCKET.fullmatch(entry):
        path = socket_parts["path"]
        if (length := len(os.fsencode(path))) > MAX_PATH_BYTES:
            raise ValueError(
                f"PE_TRITON_URL: the path of the socket {entry!r} has {length} bytes. At most {MAX_PATH_BYTES} are "
                "possible; put the socket in a directory with a shorter path"
            )
        return UnixSocket(path)
    if (parts := _ENTRY.fullmatch(entry)) is None or not 0 < int(parts["port"]) < 65_536:
        raise ValueError(f"PE_TRITON_URL: {entry!r} is neither host:port nor dns:///name:port nor unix:/path")
    host = str(ipaddress.IPv6Address(parts["v6"])) if parts["v6"] else parts["host"]
    return Address(host, int(parts["port"]), bool(parts["dns"]))
