"""``PE_TRITON_URL``: where the Tritons are, and what a name among them stands for at the moment.

addresses = entry *("," entry)
entry     = host ":" port               one Triton; a name is gRPC's to resolve, an IPv6 address is in brackets
          / "dns:///" name ":" port     each address of the name is a Triton; they may come and go
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
    """One entry of the list."""

    host: str
    port: int
    every: bool  # a Triton at each address of the host

    def __str__(self) -> str:
        return (_DNS if self.every else "") + target(self.host, self.port)


def parse(text: str) -> list[Address]:
    """The entries, in order, each once.

    Raises:
        ValueError: not of that form.
    """
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    if not entries:
        raise ValueError("PE_TRITON_URL is empty; it is host:port, or several, or dns:///name:port")
    return list(dict.fromkeys(map(_parse, entries)))


async def resolve(addresses: Sequence[Address]) -> list[str]:
    """gRPC targets ``host:port``, each once; every entry that is a name of many is looked up now.

    Raises:
        OSError: a name could not be looked up.
    """
    targets: list[str] = []
    for host, port, every in addresses:
        if not every:
            targets.append(target(host, port))
            continue
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        targets += sorted(target(str(sockaddr[0]), port) for *_, sockaddr in found)
    return list(dict.fromkeys(targets))


def target(host: str, port: int) -> str:
    """As gRPC writes an address: an IPv6 one in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _parse(entry: str) -> Address:
    if (parts := _ENTRY.fullmatch(entry)) is None or not 0 < int(parts["port"]) < 65_536:
        raise ValueError(f"PE_TRITON_URL: {entry!r} is neither host:port nor dns:///name:port")
    host = str(ipaddress.IPv6Address(parts["v6"])) if parts["v6"] else parts["host"]
    return Address(host, int(parts["port"]), bool(parts["dns"]))
