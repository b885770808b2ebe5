"""Image URL to bytes, safely.

``url_policy`` judges the URL and ``checked_network`` the addresses behind its name; what remains here is HTTP.
Redirects are followed by hand, each target judged like the first. Bytes and seconds are bounded. No proxies, cookies or
credentials.
"""

import asyncio
import functools
import socket
import ssl
import urllib.parse
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Final, Protocol

import httpcore2

from gateway.errors import InvalidImage
from gateway.images.checked_network import MAX_ADDRESSES_TRIED, CheckedNetwork, HeadLimitedStream, Resolve
from gateway.images.url_policy import INVALID, UNREACHABLE, FetchPolicy, Target, admit
from gateway.in_flight import ReserveBytes

__all__ = ["Fetch", "FetchPolicy", "ImageFetcher"]

_MAX_CONNECTIONS: Final = 16
_MAX_IDLE_CONNECTIONS: Final = 8
# Shorter than servers keep theirs (5 s and up), so that a request hardly ever meets a connection that is being closed.
_KEEPALIVE_SECONDS: Final = 2.0
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS
# Chunks of one byte keep the event loop busy at six bytes of traffic each. Real ones come in kilobytes.
_SMALL_PIECES: Final = 1_024
_MIN_BYTES_A_PIECE: Final = 256


class Fetch(Protocol):
    """Image URL to the bytes behind it."""

    async def __call__(self, url: str, reserve: ReserveBytes) -> bytes:
        """Fetch.

        Args:
            reserve: called with the size of each piece as it arrives.

        Raises:
            InvalidImage: the URL may not be fetched, or nothing usable came back.
            Overloaded: there was no room.
        """
        ...

    async def aclose(self) -> None:
        """Let go of what is open."""
        ...


class ImageFetcher:
    """Fetches over HTTP/1.1, with a small pool of connections that are kept for a moment. Close it with ``aclose``.

    Args:
        policy: what may be fetched.
        resolve: looks names up; the system's resolver by default.
        ssl_context: whom to trust; the system's certificates by default.
        network: opens connections to addresses that were checked.
    """

    def __init__(
        self,
        policy: FetchPolicy,
        *,
        resolve: Resolve | None = None,
        ssl_context: ssl.SSLContext | None = None,
        network: httpcore2.AsyncNetworkBackend | None = None,
    ) -> None:
        self._policy = policy
        # Threads of its own: a name server that never answers holds them, and must not hold up decoding.
        self._resolver_threads = ThreadPoolExecutor(_MAX_CONNECTIONS, thread_name_prefix="image-url-resolver")
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=ssl_context or httpcore2.default_ssl_context(),
            max_connections=_MAX_CONNECTIONS,
            max_keepalive_connections=_MAX_IDLE_CONNECTIONS,
            keepalive_expiry=_KEEPALIVE_SECONDS,
            network_backend=CheckedNetwork(
                network or httpcore2.AnyIOBackend(),
                resolve or self._resolve,
                allow_non_global=policy.allow_non_global_addresses,
                seconds_an_address=policy.timeout_seconds / MAX_ADDRESSES_TRIED,
            ),
        )

    async def aclose(self) -> None:
        """Close the connections, those in use too."""
        await self._pool.aclose()
        self._resolver_threads.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, url: str, reserve: ReserveBytes = lambda size: None) -> bytes:
        """See ``Fetch``."""
        target = admit(url, self._policy)
        seconds = self._policy.timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                return await self._follow(target, reserve)
        except TimeoutError:
            raise InvalidImage(f"Fetching data pointed by URL took longer than {seconds:g} seconds.") from None

    async def _follow(self, target: Target, reserve: ReserveBytes) -> bytes:
        for _ in range(self._policy.max_redirects + 1):
            try:
                answer = await self._get(target, reserve)
            except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException, OSError):
                raise InvalidImage(UNREACHABLE) from None
            if isinstance(answer, bytes):
                return answer
            target = admit(answer, self._policy)
        raise InvalidImage(UNREACHABLE)

    async def _get(self, target: Target, reserve: ReserveBytes) -> bytes | str:
        """The body, or the URL that it has moved to."""
        url = httpcore2.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)
        headers = [
            ("Host", target.authority),
            ("Accept", "image/*"),
            ("Accept-Encoding", "identity"),
            ("User-Agent", "perception-encoder-server"),
        ]
        async with self._pool.stream("GET", url, headers=headers) as response:
            if isinstance(stream := response.extensions["network_stream"], HeadLimitedStream):
                stream.head_is_read()
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
        # Asked for or not, some servers compress: objects that were stored compressed, above all.
        inflated = await asyncio.to_thread(self._inflate, body)
        reserve(len(inflated))
        return inflated

    async def _read(self, response: httpcore2.Response, reserve: ReserveBytes) -> bytes:
        body = bytearray()
        pieces = 0
        async with aclosing(response.aiter_stream()) as stream:
            async for piece in stream:
                reserve(len(piece))
                body += piece
                pieces += 1
                if len(body) > self._policy.max_bytes:
                    raise self._too_large()
                if pieces > _SMALL_PIECES + len(body) // _MIN_BYTES_A_PIECE:
                    raise InvalidImage(UNREACHABLE)
        return bytes(body)

    def _inflate(self, body: bytes) -> bytes:
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

    async def _resolve(self, host: str, port: int) -> Sequence[str]:
        look_up = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._resolver_threads, look_up)
        return [str(sockaddr[0]) for *_, sockaddr in found]


def _join(target: Target, location: bytes) -> str:
    """Where a redirect leads; judging that is ``admit``'s."""
    try:
        return urllib.parse.urljoin(target.url, location.decode("utf-8"))
    except ValueError:  # not UTF-8, or brackets that never close
        raise InvalidImage(INVALID) from None
