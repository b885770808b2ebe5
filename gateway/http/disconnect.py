"""Work ends when nobody waits for it: a client that hangs up cancels its request, down to the call to Triton."""

import asyncio

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send


async def run_while_connected(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Runs the app, and cancels it if the client leaves.

    Raises:
        ClientDisconnect: it left; Starlette raises the same while a body is read.
    """
    task = asyncio.current_task()
    assert task is not None
    watcher: asyncio.Task[Message] | None = None
    answered = left = False

    async def watch() -> Message:
        nonlocal left
        message = await receive()  # after the body there is nothing else to come
        if not answered:
            left = True
            task.cancel()
        return message

    async def received() -> Message:
        nonlocal watcher
        if watcher is not None:
            return await asyncio.shield(watcher)
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            watcher = asyncio.create_task(watch())
        return message

    async def sent(message: Message) -> None:
        nonlocal answered
        # Set before it goes out: servers report a finished answer as a disconnect, too.
        answered = message["type"] == "http.response.body" and not message.get("more_body", False)
        await send(message)

    try:
        await app(scope, received, sent)
    except asyncio.CancelledError:
        if left and task.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        if watcher is not None:
            watcher.cancel()
