"""Open connections that read little ahead. The image fetcher uses them in place of `httpcore2.AnyIOBackend`.

The byte budget counts what the fetcher has read. With `AnyIOBackend` on uvloop, a fast server fills several megabytes
of a connection's queue before anybody reads, and no budget counts those.
"""

import asyncio
import select
import socket
import ssl
from collections.abc import Iterable
from typing import Any, Final, cast

import httpcore2

_EXTRA_INFO: Final = {"ssl_object": "ssl_object", "client_addr": "sockname", "server_addr": "peername"}


class BoundedNetwork(httpcore2.AsyncNetworkBackend):
    """A network backend whose connections hold what one read of the socket returned, at most 256 KiB on uvloop."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  the signature is httpcore2's
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to an address; see `httpcore2`."""
        local = None if local_address is None else (local_address, 0)
        try:
            async with asyncio.timeout(timeout):
                loop = asyncio.get_running_loop()
                _, connection = await loop.create_connection(_Connection, host, port, local_addr=local)
        except TimeoutError:
            raise httpcore2.ConnectTimeout from None
        except OSError as error:
            raise httpcore2.ConnectError(str(error)) from None
        for option in socket_options or ():
            connection.transport.get_extra_info("socket").setsockopt(*option)
        return _Stream(connection)


class _Connection(asyncio.Protocol):
    """The bytes that arrived and are not read yet. The transport reads only while a caller waits for more."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.received = bytearray()
        self.ended = False
        self.error: Exception | None = None
        self._changed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.transport.pause_reading()
        self._changed.set()

    def eof_received(self) -> None:
        self.ended = True
        self._changed.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.ended, self.error = True, error
        self._changed.set()

    async def wait(self) -> None:
        """Wait until there are bytes, or the connection has ended."""
        while not self.received and not self.ended:
            self._changed.clear()
            self.transport.resume_reading()
            await self._changed.wait()


class _Stream(httpcore2.AsyncNetworkStream):
    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """Return the next bytes, or none at the end."""
        try:
            async with asyncio.timeout(timeout):
                await self._connection.wait()
        except TimeoutError:
            raise httpcore2.ReadTimeout from None
        received = self._connection.received
        if not received and self._connection.error is not None:
            raise httpcore2.ReadError(str(self._connection.error))
        data = bytes(memoryview(received)[:max_bytes])
        del received[:max_bytes]
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Send a request, which is short, so that nobody waits for room."""
        if self._connection.ended or self._connection.transport.is_closing():
            raise httpcore2.WriteError("the connection is closed")
        self._connection.transport.write(buffer)

    async def aclose(self) -> None:
        """Close at once: the response is complete, or nobody wants it."""
        self._connection.transport.abort()
        self._connection.received.clear()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore2.AsyncNetworkStream:
        """Begin TLS, and check the server's certificate."""
        connection = self._connection
        try:
            async with asyncio.timeout(timeout):
                transport = await asyncio.get_running_loop().start_tls(
                    connection.transport, connection, ssl_context, server_hostname=server_hostname
                )
        except TimeoutError:
            connection.transport.abort()
            raise httpcore2.ConnectTimeout from None
        except OSError as error:
            connection.transport.abort()
            raise httpcore2.ConnectError(str(error)) from None
        if transport is None:
            raise httpcore2.ConnectError("the connection ended")
        connection.transport = transport
        transport.pause_reading()
        return self

    def get_extra_info(self, info: str) -> Any:
        transport = self._connection.transport
        if info == "is_readable":  # An idle connection that has ended, or has unexpected bytes, is not used again.
            return bool(self._connection.ended or self._connection.received or _is_readable(transport))
        return transport.get_extra_info(_EXTRA_INFO.get(info, info))


def _is_readable(transport: asyncio.Transport) -> bool:
    sock: socket.socket = transport.get_extra_info("socket")
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))
