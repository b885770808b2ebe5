"""Connect only to hosts whose addresses are allowed. The image fetcher uses this as its network.

A name is resolved once. Every address of the name must be allowed, and the connection goes to one of these addresses.
A name server that gives another answer later (DNS rebinding) has no effect, because there is no second lookup.
"""

import ipaddress
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

import httpcore2

from gateway.errors import InvalidImage
from gateway.images.url_policy import NON_GLOBAL, is_global, literal_address

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Resolves a host name and a port to addresses. Raises OSError if the name has none."""

MAX_ADDRESSES_TRIED: Final = 4
# For the head of a response and all interim responses before it. Few servers send or accept more than 16 KiB.
_MAX_HEAD_BYTES: Final = 32 * 2**10
_HEAD_READ_BYTES: Final = 4 * 2**10


class CheckedNetwork(httpcore2.AsyncNetworkBackend):
    """A network backend that connects to a host only if all addresses of the host are allowed.

    Args:
        network: the backend that opens connections to addresses.
        resolve: resolves host names.
        allow_non_global: whether addresses outside the public internet are allowed.
        seconds_per_address: timeout for one address, before the next one is tried.
    """

    def __init__(
        self,
        network: httpcore2.AsyncNetworkBackend,
        resolve: Resolve,
        *,
        allow_non_global: bool,
        seconds_per_address: float,
    ) -> None:
        self._network = network
        self._resolve = resolve
        self._allow_non_global = allow_non_global
        self._seconds_per_address = seconds_per_address

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  the signature is httpcore2's
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to one of the host's addresses; see `httpcore2`.

        Raises:
            InvalidImage: an address is not allowed.
            OSError: the name has no address.
        """
        literal = literal_address(host)
        addresses = [literal] if literal else [ipaddress.ip_address(a) for a in await self._resolve(host, port)]
        # One forbidden address is enough to refuse: no web site has public and private addresses under one name.
        if not self._allow_non_global and not all(map(is_global, addresses)):
            raise InvalidImage(NON_GLOBAL)
        failure: Exception = httpcore2.ConnectError("no address")
        for address in addresses[:MAX_ADDRESSES_TRIED]:
            try:
                return HeadLimitedStream(
                    await self._network.connect_tcp(
                        str(address), port, self._seconds_per_address, local_address, socket_options
                    )
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure


class HeadLimitedStream(httpcore2.AsyncNetworkStream):
    """A connection that fails if the bytes before the response body exceed `_MAX_HEAD_BYTES`.

    The HTTP parser limits the size of one response head, but not the number of interim responses ("100 Continue")
    before the head. An interim response costs 16 bytes of traffic and 50 us of CPU, so a server on a slow line could
    keep this process busy until the fetch times out.
    """

    def __init__(self, stream: httpcore2.AsyncNetworkStream) -> None:
        self._stream = stream
        self._head_bytes_left: int | None = None  # None while no head is being read

    def end_head(self) -> None:
        """Stop counting, because the body follows. `ImageFetcher` limits the size of the body."""
        self._head_bytes_left = None

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        if self._head_bytes_left is None:
            return await self._stream.read(max_bytes, timeout)
        if self._head_bytes_left <= 0:
            raise httpcore2.RemoteProtocolError("no response yet")
        data = await self._stream.read(min(max_bytes, _HEAD_READ_BYTES), timeout)
        self._head_bytes_left -= len(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        self._head_bytes_left = _MAX_HEAD_BYTES
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore2.AsyncNetworkStream:
        return HeadLimitedStream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
