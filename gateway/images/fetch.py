"""Fetch an image from a URL that a client sent.

`url_policy` checks the URL, `checked_network` checks the addresses of its host, and this module speaks HTTP. Each
redirect is checked like the first URL. Size and duration are bounded. Proxies, cookies and credentials are not used.
"""

import asyncio
import ssl
import urllib.parse
import zlib
from contextlib import aclosing
from typing import Final, Protocol
from weakref import WeakValueDictionary

import httpcore2

from gateway.errors import InvalidImage
from gateway.images.bounded_network import BoundedNetwork
from gateway.images.checked_network import MAX_ADDRESSES_TRIED, CheckedNetwork, HeadLimitedStream, Resolve
from gateway.images.resolver import Resolver
from gateway.images.url_policy import INVALID, UNREACHABLE, FetchPolicy, Target, admit
from gateway.in_flight import ReserveBytes

__all__ = ["Fetch", "FetchPolicy", "ImageFetcher"]

_MAX_IDLE_CONNECTIONS: Final = 8
# Servers keep idle connections for 5 s or more. A shorter time avoids requests on a connection that is being closed.
_KEEPALIVE_SECONDS: Final = 2.0
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS
# A chunk of one byte costs six bytes of traffic, and as much CPU as a usual chunk of several kilobytes.
# So a body may have this many chunks, and one more per so many bytes.
_MAX_SMALL_CHUNKS: Final = 1_024
_MIN_BYTES_PER_CHUNK: Final = 256


class Fetch(Protocol):
    """Fetches the image file at a URL."""

    async def __call__(self, url: str, reserve: ReserveBytes) -> bytes | bytearray:
        """Fetch the image file.

        Args:
            url: the URL, as the client sent it.
            reserve: reserves bytes of the budget for bytes in flight. Called for each chunk.

        Raises:
            InvalidImage: the policy refuses the URL, or the response is not usable.
            Overloaded: the byte budget is exhausted.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...


class ImageFetcher:
    """Fetches over HTTP/1.1, and keeps a few connections for the next images. Close it with `aclose`.

    The caller bounds how many fetches there are at once. The fetcher bounds how many connections one host has, so that
    a host that does not answer leaves connections for the others.

    Args:
        policy: the rules for URLs, and the limits of a fetch.
        max_fetches: fetches at once for one client. One host has at most half as many connections. More fetches from
            the host wait for one, until they time out.
        resolve: resolves host names. Default: the system's resolver.
        ssl_context: the trusted certificates. Default: the system's.
        network: opens connections to addresses that were checked. Default: `BoundedNetwork`.
    """

    def __init__(
        self,
        policy: FetchPolicy,
        *,
        max_fetches: int = 256,
        resolve: Resolve | None = None,
        ssl_context: ssl.SSLContext | None = None,
        network: httpcore2.AsyncNetworkBackend | None = None,
    ) -> None:
        self._policy = policy
        self._resolver = Resolver(max_fetches)
        self._max_per_host = max(1, max_fetches // 2)
        self._hosts = WeakValueDictionary[str, asyncio.Semaphore]()
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=ssl_context or httpcore2.default_ssl_context(),
            max_connections=None,
            max_keepalive_connections=_MAX_IDLE_CONNECTIONS,
            keepalive_expiry=_KEEPALIVE_SECONDS,
            network_backend=CheckedNetwork(
                network or BoundedNetwork(),
                resolve or self._resolver,
                allow_non_global=policy.allow_non_global_addresses,
                seconds_per_address=policy.timeout_seconds / MAX_ADDRESSES_TRIED,
            ),
        )

    async def aclose(self) -> None:
        """Close all connections, including those in use."""
        await self._pool.aclose()
        self._resolver.close()

    async def __call__(self, url: str, reserve: ReserveBytes = lambda size: None) -> bytes | bytearray:
        """Fetch the image file; see `Fetch`."""
        target = admit(url, self._policy)
        seconds = self._policy.timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                return await self._follow(target, reserve)
        except TimeoutError:
            raise InvalidImage(f"Fetching data pointed by URL took longer than {seconds:g} seconds.") from None

    async def _follow(self, target: Target, reserve: ReserveBytes) -> bytes | bytearray:
        for _ in range(self._policy.max_redirects + 1):
            try:
                async with self._slot(target):
                    result = await self._get(target, reserve)
            except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException, OSError):
                raise InvalidImage(UNREACHABLE) from None
            if not isinstance(result, str):
                return result
            target = admit(result, self._policy)
        raise InvalidImage(UNREACHABLE)

    def _slot(self, target: Target) -> asyncio.Semaphore:
        """The semaphore of the target's host. It exists as long as a fetch from the host holds or awaits it."""
        return self._hosts.setdefault(target.authority, asyncio.Semaphore(self._max_per_host))

    async def _get(self, target: Target, reserve: ReserveBytes) -> bytes | bytearray | str:
        """Send one GET. Returns the body, or the URL of a redirect."""
        url = httpcore2.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)
        headers = [
            ("Host", target.authority),
            ("Accept", "image/*"),
            ("Accept-Encoding", "identity"),
            ("User-Agent", "perception-encoder-server"),
        ]
        async with self._pool.stream("GET", url, headers=headers) as response:
            if isinstance(stream := response.extensions["network_stream"], HeadLimitedStream):
                stream.end_head()
            fields = {name.lower(): value for name, value in response.headers}
            if response.status in _REDIRECTS and b"location" in fields:
                return _join(target, fields[b"location"])
            if not 200 <= response.status < 300:
                raise InvalidImage(UNREACHABLE)
            encoding = fields.get(b"content-encoding", b"identity").strip().lower()
            if encoding not in (b"identity", b"gzip", b"x-gzip", b"deflate"):
                raise InvalidImage(UNREACHABLE)
            if int(fields.get(b"content-length", 0)) > self._policy.max_bytes:
                raise self._too_large()
            body = await self._read(response, reserve)
        if encoding == b"identity":
            return body
        # Some servers compress although `identity` was requested, mostly object stores with compressed objects.
        inflated = await asyncio.to_thread(self._inflate, body)
        reserve(len(inflated))
        return inflated

    async def _read(self, response: httpcore2.Response, reserve: ReserveBytes) -> bytearray:
        body = bytearray()
        chunks = 0
        async with aclosing(response.aiter_stream()) as stream:
            async for chunk in stream:
                reserve(len(chunk))
                body += chunk
                chunks += 1
                if len(body) > self._policy.max_bytes:
                    raise self._too_large()
                if chunks > _MAX_SMALL_CHUNKS + len(body) // _MIN_BYTES_PER_CHUNK:
                    raise InvalidImage(UNREACHABLE)
        return body  # A copy as `bytes` would take 25 ms for 64 MB.

    def _inflate(self, body: bytearray) -> bytes:
        stream = zlib.decompressobj(_GZIP_OR_ZLIB)
        try:
            inflated = stream.decompress(body, self._policy.max_bytes + 1)
        except zlib.error:
            raise InvalidImage(UNREACHABLE) from None
        if len(inflated) > self._policy.max_bytes:
            raise self._too_large()
        if not stream.eof:
            raise InvalidImage(UNREACHABLE)
        return inflated

    def _too_large(self) -> InvalidImage:
        return InvalidImage(f"Data pointed by URL is larger than the {self._policy.max_bytes} bytes that are allowed.")


def _join(target: Target, location: bytes) -> str:
    """Resolve a redirect's `Location` against the current URL. The caller checks the result with `admit`."""
    try:
        return urllib.parse.urljoin(target.url, location.decode("utf-8"))
    except ValueError:  # not UTF-8, or an unclosed bracket
        raise InvalidImage(INVALID) from None
