"""Cancel a request when its client disconnects, down to the call to Triton."""

import asyncio
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.concurrency import CancelScope
from gateway.http.record import record_of

# Requests that are answered within this time are not watched, because watching needs a second task.
_UNWATCHED_SECONDS: Final = 0.05


async def run_while_connected(
    app: ASGIApp, scope: Scope, receive: Receive, send: Send, cancel_scope: CancelScope
) -> None:
    """Run the app, and cancel `cancel_scope` with `ClientDisconnect` if the client disconnects.

    Starlette raises `ClientDisconnect`, too, where a client disconnects while its body is read.
    """
    loop = asyncio.get_running_loop()
    record = record_of(scope)
    watch_timer: asyncio.TimerHandle | None = None
    watcher: asyncio.Task[Message] | None = None

    async def watch() -> Message:
        message = await receive()  # After the body, the only message left is the disconnect.
        if not record.finished:
            cancel_scope.cancel(ClientDisconnect())
        return message

    def start_watching() -> None:
        nonlocal watcher
        watcher = loop.create_task(watch())

    async def watched_receive() -> Message:
        nonlocal watch_timer
        if watch_timer is not None:
            watch_timer.cancel()
            if watcher is None:
                start_watching()
            assert watcher is not None
            return await asyncio.shield(watcher)
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            watch_timer = loop.call_later(_UNWATCHED_SECONDS, start_watching)
        return message

    try:
        await app(scope, watched_receive, send)
    finally:
        if watch_timer is not None:
            watch_timer.cancel()
        if watcher is not None:
            watcher.cancel()
