"""Servers on loopback that take requests for images and never finish an answer, and one that answers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from tests.gateway.tcp_server import tcp_server

HANGING: Final = {
    "nothing is answered": b"",
    "the head does not end": b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n",
    "the body does not end": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n\x89PNG",
    "interim responses only": b"HTTP/1.1 102 Processing\r\n\r\n",
}
"""What such a server sends before it hangs."""


@asynccontextmanager
async def image_server(sends: bytes, *, ends: bool = False, heads: list[bytes] | None = None) -> AsyncIterator[str]:
    """Serve at the returned URL. Each request gets `sends`. Then the server closes the connection, or hangs.

    Args:
        heads: the heads of the requests are appended to it.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if heads is not None:
            heads.append(head)
        writer.write(sends)
        await writer.drain()
        if not ends:
            await asyncio.Event().wait()

    async with tcp_server(serve) as port:
        yield f"http://127.0.0.1:{port}/image.png"


def ok(image: bytes) -> bytes:
    """The response that a server of images sends."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(image) + image
