"""Tell clients apart, so that admission control can give each its share."""

import ipaddress
from collections.abc import Hashable
from functools import lru_cache
from typing import Final

from starlette.types import Scope

from gateway.http.keys import ApiKeys
from gateway.settings import ClientIdentity

# Who has one IPv6 address usually has its whole /64 network.
_IPV6_PREFIX: Final = 64
# A proxy that is trusted may pass on what the client says of itself. With its zone, an IPv6 address has 55.
_MAX_ADDRESS_CHARACTERS: Final = 64


def address_of(scope: Scope) -> str | None:
    """The address of a request's client, or the start of what stands in its place."""
    return scope["client"][0][:_MAX_ADDRESS_CHARACTERS] if scope.get("client") else None


class Clients:
    """Names the client of a request.

    Args:
        identity: what a client is.
        keys: tells which keys are known. An unknown key names no client: anybody can invent any number of them.
    """

    def __init__(self, identity: ClientIdentity, keys: ApiKeys) -> None:
        self._identity = identity
        self._keys = keys

    def by_head(self, scope: Scope) -> Hashable:
        """The client by its API key, else by its address. While a key may be in the body, the address stands in."""
        if self._identity == "none":
            return ""
        if self._identity == "key" and (key := self._keys.known_in_head(scope)) is not None:
            return key
        return _network(address_of(scope) or "")

    def by_body(self, key: bytes) -> Hashable | None:
        """The client by the key of an authenticated body; None if keys do not tell clients apart.

        Args:
            key: as `ApiKeys.check_body` returns it.
        """
        return key if self._identity == "key" else None


@lru_cache(4096)
def _network(host: str) -> str:
    """The address, or the network that is likely to be one client's."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a trusted proxy may say what it likes
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    if address.ipv4_mapped is not None:  # IPv4, at a listener for both
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address), _IPV6_PREFIX), strict=False))
