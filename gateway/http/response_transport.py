"""Write a response's head together with the first bytes of its body.

uvicorn writes the two one after the other, and each write is a system call that wakes the client. ASGI asks servers to
wait for the body: https://asgi.readthedocs.io/en/latest/specs/www.html#response-start-send-event.
"""

import asyncio
from typing import Final, Protocol

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

# Joining a head and a body copies the body.
_MAX_JOINED_BYTES: Final = 64 * 2**10


class ClientConnection(Protocol):
    """What a transport needs of the connection that it belongs to.

    Attributes:
        cycle: the latest request, and its response.
    """

    cycle: RequestResponseCycle

    @property
    def is_closing(self) -> bool:
        """Whether no more requests are read."""

    def close(self) -> None:
        """Close the connection after the responses that are written."""


class ResponseTransport(asyncio.Transport):
    """A transport for uvicorn. Closing is left to the connection, which knows whether the client still sends."""

    def __init__(self, transport: asyncio.Transport, connection: ClientConnection) -> None:
        super().__init__()
        self._connection = connection
        self._transport = transport
        self._head: bytes | None = None
        self._head_written = False
        for name in ("get_extra_info", "pause_reading", "resume_reading"):  # faster than a method that calls
            setattr(self, name, getattr(transport, name))

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._head is not None:
            if len(data) <= _MAX_JOINED_BYTES:
                data = self._head + data
            else:
                self._transport.write(self._head)
            self._head = None
            self._transport.write(data)
        elif not self._head_written and self._connection.cycle.response_started:  # else it is `100 Continue`
            self._head_written = True
            self._head = bytes(data)
        else:
            self._transport.write(data)

    def send_head(self) -> None:
        """Write the head if it still waits for the body."""
        if self._head is not None:
            head, self._head = self._head, None
            self._transport.write(head)

    def end(self) -> None:
        """Note that the response is complete. The response to HEAD has no body."""
        self.send_head()
        self._head_written = False

    def close(self) -> None:
        self._connection.close()

    def is_closing(self) -> bool:
        return self._connection.is_closing or self._transport.is_closing()
