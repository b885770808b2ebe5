"""Work ends when nobody waits for it: a client that hangs up cancels its request, down to the call to Triton."""

import asyncio
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.http.exchange import exchange_of

# Before that nobody looks whether the client is still there. What is answered by then is not worth a second task.
_UNWATCHED_SECONDS: Final = 0.05


async def run_while_connected(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Runs the app, and cancels it if the client leaves.

    Raises:
        ClientDisconnect: it left; Starlette raises the same while a body is read.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    exchange = exchange_of(scope)
    due: asyncio.TimerHandle | None = None
    watcher: asyncio.Task[Message] | None = None
    left = False

    async def watch() -> Message:
        nonlocal left
        message = await receive()  # after the body there is nothing else to come
        if not exchange.finished:
            left = True
            task.cancel()
        return message

    def start_watching() -> None:
        nonlocal watcher
        watcher = loop.create_task(watch())

    async def received() -> Message:
        nonlocal due
        if due is not None:
            due.cancel()
            if watcher is None:
                start_watching()
            assert watcher is not None
            return await asyncio.shield(watcher)
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            due = loop.call_later(_UNWATCHED_SECONDS, start_watching)
        return message

    try:
        await app(scope, received, send)
    except asyncio.CancelledError:
        if left and task.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        if due is not None:
            due.cancel()
        if watcher is not None:
            watcher.cancel()
