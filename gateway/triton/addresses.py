"""Parse `PE_TRITON_URL`, the addresses of one or several Tritons, and resolve them to gRPC targets.

addresses = entry *("," entry)
entry     = host ":" port             one Triton. gRPC resolves a name. An IPv6 address is in brackets.
          / "dns:///" name ":" port   one Triton at each address of the name. The addresses may change.
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Sequence
from typing import Final, NamedTuple

_DNS: Final = "dns:///"
_ENTRY: Final = re.compile(
    rf"(?P<dns>{_DNS})?(\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s/@:\[\]]+)):(?P<port>[0-9]{{1,5}})"
)


class Address(NamedTuple):
    """One entry of the list. `dns` means that there is a Triton at each address of the host."""

    host: str
    port: int
    dns: bool

    def __str__(self) -> str:
        return (_DNS if self.dns else "") + target(self.host, self.port)


def parse(text: str) -> list[Address]:
    """Parse the list. Returns the entries in order, without duplicates.

    Raises:
        ValueError: the text does not match the grammar.
    """
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    if not entries:
        raise ValueError("PE_TRITON_URL is empty; it is host:port, or several, or dns:///name:port")
    return list(dict.fromkeys(map(_parse, entries)))


async def resolve(addresses: Sequence[Address]) -> list[str]:
    """Look up the `dns:///` entries. Returns gRPC targets `host:port`, without duplicates.

    Raises:
        OSError: a lookup failed.
    """
    targets: list[str] = []
    for host, port, dns in addresses:
        if not dns:
            targets.append(target(host, port))
            continue
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        targets += sorted(target(str(sockaddr[0]), port) for *_, sockaddr in found)
    return list(dict.fromkeys(targets))


def target(host: str, port: int) -> str:
    """Format an address for gRPC, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _parse(entry: str) -> Address:
    if (parts := _ENTRY.fullmatch(entry)) is None or not 0 < int(parts["port"]) < 65_536:
        raise ValueError(f"PE_TRITON_URL: {entry!r} is neither host:port nor dns:///name:port")
    host = str(ipaddress.IPv6Address(parts["v6"])) if parts["v6"] else parts["host"]
    return Address(host, int(parts["port"]), bool(parts["dns"]))
