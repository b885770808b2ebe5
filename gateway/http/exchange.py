"""What is known of one request and its answer, for every middleware: kept once, where the answer goes out."""

import random
import re
import time
from collections.abc import Callable
from typing import Any, Final

from starlette.types import Message, Scope, Send

from gateway.drain import Drain
from gateway.observe.stages import Stages

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


class Exchange:
    """The ``send`` of a request, with what has gone through it: one wrapper for all who would each need their own.

    ``status``: of the answer, 0 until it starts. ``finished``: its last byte was handed over. ``error``: what it is the
    answer to. ``bytes``: of the request's body. ``awaits_key``: what a JSON body has yet to be shown to, where the
    request brought no key.
    """

    __slots__ = (
        "_drain",
        "_send",
        "awaits_key",
        "bytes",
        "error",
        "finished",
        "request_id",
        "stages",
        "start",
        "status",
    )

    def __init__(self, scope: Scope, send: Send, drain: Drain) -> None:
        self._send = send
        self._drain = drain
        self.start = time.perf_counter()
        self.stages = Stages()
        self.status = 0
        self.finished = False
        self.error: str | None = None
        self.bytes = 0
        self.awaits_key: Callable[[Any], None] | None = None
        given = header(scope, b"x-request-id")
        # A new id where the client's could not stand in a header or a log as it is. It need not be a secret.
        self.request_id = given if _REQUEST_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"
        scope.setdefault("state", {})["exchange"] = self

    async def send(self, message: Message) -> None:
        """Sends, and adds to the answer's head who, what and how long."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            timing = self.stages.server_timing(time.perf_counter() - self.start)
            message["headers"] = [
                *message.get("headers", ()),
                (b"x-request-id", self.request_id.encode()),
                (b"x-inference-engine", b"triton"),
                (b"server-timing", timing.encode()),
            ]
            if self._drain.begun:  # the next request is for another server
                message["headers"].append((b"connection", b"close"))
        elif not message.get("more_body", False):
            # Set before it goes out: servers report a finished answer as a disconnect, too.
            self.finished = True
        await self._send(message)


def exchange_of(scope: Scope) -> Exchange:
    """The request's own, which ``Observe`` made."""
    exchange: Exchange = scope["state"]["exchange"]
    return exchange


def header(scope: Scope, name: bytes) -> str:
    """The first header of that name, in lower case as ASGI has it; "" if there is none.

    Starlette's ``Headers`` takes several times as long for one.
    """
    for key, value in scope["headers"]:
        if key == name:
            return value.decode("latin-1")  # type: ignore[no-any-return]  # bytes, says ASGI
    return ""
