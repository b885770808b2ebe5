"""The record of one request and its response, which every middleware reads and writes."""

import random
import re
import time
from typing import Final

from starlette.types import Message, Scope, Send

from gateway.drain import Drain
from gateway.http.headers import header
from gateway.observe.stages import Stages

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


class RequestRecord:
    """What is known about one request and its response.

    The record also wraps `send`, once for all middlewares that would each need a wrapper of their own.

    Attributes:
        request_id: the client's `X-Request-Id`, or a new one.
        start: when the request began, by `time.perf_counter`.
        stages: seconds by stage.
        status: of the response; 0 until the response starts.
        finished: whether the last byte of the response was sent.
        error: name of the error that the response reports; None without one.
        body_bytes: size of the request's body.
        authenticated: whether the request passed the check of API keys. False while its key may be in its body.
    """

    __slots__ = (
        "_drain",
        "_send",
        "authenticated",
        "body_bytes",
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
        self.body_bytes = 0
        self.authenticated = False
        given = header(scope, b"x-request-id")
        # An id that is unsafe in a header or a log line is replaced. A new id identifies, and need not be secret.
        self.request_id = given if _REQUEST_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"
        scope.setdefault("state", {})["record"] = self

    async def send(self, message: Message) -> None:
        """Send a message. Add request id, engine and Server-Timing to the headers of a response."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            timing = self.stages.server_timing(time.perf_counter() - self.start)
            message["headers"] = [
                *message.get("headers", ()),
                (b"x-request-id", self.request_id.encode()),
                (b"x-inference-engine", b"triton"),
                (b"server-timing", timing.encode()),
            ]
            if self._drain.begun:  # The client's next request has to go to another server.
                message["headers"].append((b"connection", b"close"))
        elif not message.get("more_body", False):
            # This is set before sending, because servers report a finished response as a disconnect, too.
            self.finished = True
        await self._send(message)


def record_of(scope: Scope) -> RequestRecord:
    """The request's record. `Observe` creates it before any other code needs it."""
    record: RequestRecord = scope["state"]["record"]
    return record
