"""Connections to hosts whose addresses were judged: the network beneath the image fetcher.

A name is resolved once, every address it has must be allowed, and the connection goes to one of those very addresses:
a name server that answers otherwise the second time is never asked a second time.
"""

import ipaddress
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

import httpcore2

from gateway.errors import InvalidImage
from gateway.images.url_policy import NON_GLOBAL, is_global, literal_address

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host name and port to its addresses; raises OSError when there are none."""

MAX_ADDRESSES_TRIED: Final = 4
# Of a response, with any interim ones before it. Servers themselves rarely send, or accept, more than 16 KiB.
_MAX_HEAD_BYTES: Final = 32 * 2**10
_HEAD_READ_BYTES: Final = 4 * 2**10


class CheckedNetwork(httpcore2.AsyncNetworkBackend):
    """Connects to the addresses of a host, if all of them are allowed.

    Args:
        network: opens connections to addresses.
        resolve: looks names up.
        allow_non_global: whether addresses outside the public internet are allowed.
        seconds_an_address: how long to try one address before the next.
    """

    def __init__(
        self,
        network: httpcore2.AsyncNetworkBackend,
        resolve: Resolve,
        *,
        allow_non_global: bool,
        seconds_an_address: float,
    ) -> None:
        self._network = network
        self._resolve = resolve
        self._allow_non_global = allow_non_global
        self._seconds_an_address = seconds_an_address

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  the signature is httpcore2's
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """See ``httpcore2``.

        Raises:
            InvalidImage: an address is not allowed.
            OSError: the name has none.
        """
        literal = literal_address(host)
        addresses = [literal] if literal else [ipaddress.ip_address(a) for a in await self._resolve(host, port)]
        # One that is not allowed condemns the name: a name with both kinds is an attempt, not a web site.
        if not self._allow_non_global and not all(map(is_global, addresses)):
            raise InvalidImage(NON_GLOBAL)
        failure: Exception = httpcore2.ConnectError("no address")
        for address in addresses[:MAX_ADDRESSES_TRIED]:
            try:
                return HeadLimitedStream(
                    await self._network.connect_tcp(
                        str(address), port, self._seconds_an_address, local_address, socket_options
                    )
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure


class HeadLimitedStream(httpcore2.AsyncNetworkStream):
    """A connection that gives up when no response has begun after so many bytes.

    The parser above limits one response head, but takes any number of interim ones ("100 Continue") before it: at 16
    bytes and 50 us each, a server on a slow line could keep this process busy until the time is up.
    """

    def __init__(self, stream: httpcore2.AsyncNetworkStream) -> None:
        self._stream = stream
        self._head_bytes_left: int | None = None  # None: not reading a head

    def head_is_read(self) -> None:
        """What follows is the body, which is limited elsewhere."""
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
