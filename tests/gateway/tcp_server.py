"""A TCP server on loopback that leaves no open connection behind."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def tcp_server(serve: Serve, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Yield the port of a server that calls `serve` for each connection, and closes the connection afterwards.

    At the end, it cancels the calls and waits until all connections are closed. A connection that is still open when a
    test's event loop closes makes a later test fail, by a ResourceWarning. Clients must have disconnected by then.
    """
    serving: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            writer.transport.abort()  # The client disconnected, or the test has ended.
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    # Before Python 3.12, `wait_closed` does not wait if it is called after `close`.
    closed = asyncio.ensure_future(server.wait_closed())
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        while not closed.done():
            for task in serving:
                task.cancel()
            await asyncio.wait([closed], timeout=0.05)
        with suppress(OSError):
            await closed
