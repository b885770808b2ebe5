"""The open connections of one process: how many, and what each waits for.

A connection that waits for its client is closed when it has waited too long. It is closed earlier if a new connection
needs its place. A connection that the app works for waits for nobody, and admission control bounds its request.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from typing import Final, Protocol

# Why a connection was closed, as labels of the metric, besides those of the waits.
INVALID: Final = "invalid_request"
_EVICTED: Final = "evicted"
_REFUSED: Final = "refused"

# Descriptors that are not for clients: Triton, images that are fetched, files, pipes of child processes.
_SHARE_OF_DESCRIPTORS: Final = 0.75
_MAX_CONNECTIONS: Final = 10_000
_SECONDS_BETWEEN_CHECKS: Final = 1.0
_SECONDS_BETWEEN_LOGS: Final = 60.0

_log = logging.getLogger(__name__)


def default_limit(descriptors: int) -> int:
    """How many connections a process with a limit of so many file descriptors should accept."""
    return max(1, min(int(descriptors * _SHARE_OF_DESCRIPTORS), _MAX_CONNECTIONS))


class Connection(Protocol):
    """What the registry needs of a connection."""

    def time_out(self) -> None:
        """End the connection's wait: close it, or let it wait again."""

    def abort(self) -> None:
        """Close the connection now, whatever it has left to send."""

    def read_pipelined(self) -> None:
        """Begin the next request, if it has arrived already."""


class ConnectionMetrics(Protocol):
    """Where the registry reports to."""

    def set_connections(self, count: int) -> None:
        """Set how many connections are open."""

    def count_closed_connections(self, reason: str, count: int) -> None:
        """Count connections that the server closed. A count of 0 makes the reason's series appear."""


class Wait:
    """Connections that wait for the same thing of their clients, in the order in which they began to wait.

    Args:
        reason: why a connection that waited too long is closed, as a label of the metric.
        seconds: how long a connection may wait.
    """

    def __init__(self, reason: str, seconds: float) -> None:
        self.reason = reason
        self.seconds = seconds
        self.since: OrderedDict[Connection, float] = OrderedDict()


class Connections:
    """The registry of connections.

    Args:
        limit: the maximum of open connections.
        metrics: where to report to. Default: nowhere.

    Attributes:
        idle: between two requests. uvicorn's keep-alive setting is its time.
        head: for a request's head, from the connection's opening or the head's first byte.
        rest: for the end of a body whose request was answered early. The bytes are ignored.
        unread: for the client to read its response.
    """

    def __init__(self, limit: int, metrics: ConnectionMetrics | None = None) -> None:
        self.idle = Wait("idle", 75)
        self.head = Wait("slow_head", 10)
        self.rest = Wait("refused_body", 5)
        self.unread = Wait("unread_response", 30)
        # A new connection replaces the one that loses least: idle connections first.
        self._waits = (self.idle, self.head, self.rest, self.unread)
        self._limit = limit
        self._metrics = metrics
        self._open: set[Connection] = set()
        self._pipelined: dict[Connection, None] = {}
        self._checking = False
        self._log_from = 0.0
        if metrics is not None:
            for reason in (*(wait.reason for wait in self._waits), INVALID, _EVICTED, _REFUSED):
                metrics.count_closed_connections(reason, 0)

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> bool:
        """Add a new connection. At the limit, it replaces one that waits for its client, if there is one.

        Returns:
            Whether there was room. If not, the caller must close the connection.
        """
        if len(self._open) >= self._limit and not self._evict():
            return False
        self._open.add(connection)
        self._report()
        if not self._checking:
            self._checking = True
            self._check_later(loop)
        return True

    def discard(self, connection: Connection) -> None:
        """Remove a connection that is closed."""
        self._open.discard(connection)
        self._report()

    def queue_pipelined(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
        """Let a connection begin a pipelined request in its turn.

        The event loop begins one such request in each of its rounds. Otherwise fifty connections with thousands of
        pipelined requests each would begin fifty in each round, and a new client's request would wait several rounds.
        """
        if not self._pipelined:
            loop.call_soon(self._begin_pipelined, loop)
        self._pipelined[connection] = None

    def _begin_pipelined(self, loop: asyncio.AbstractEventLoop) -> None:
        connection = next(iter(self._pipelined))
        del self._pipelined[connection]
        if self._pipelined:
            loop.call_soon(self._begin_pipelined, loop)
        connection.read_pipelined()

    def count_closed(self, reason: str) -> None:
        """Count a connection that the server closed."""
        if self._metrics is not None:
            self._metrics.count_closed_connections(reason, 1)

    def _evict(self) -> bool:
        """Close the connection that loses least. Returns False if no connection waits for its client."""
        for wait in self._waits:
            if wait.since:
                connection, _ = wait.since.popitem(last=False)
                self._log("Closing the connection that has been idle longest, because %d are open.")
                self.count_closed(_EVICTED)
                self._open.discard(connection)
                connection.abort()
                return True
        self._log("Refusing new connections, because %d are open and all of them are in use.")
        self.count_closed(_REFUSED)
        return False

    def _log(self, message: str) -> None:
        """Log a shortage once, not for each connection."""
        if (now := time.monotonic()) >= self._log_from:
            self._log_from = now + _SECONDS_BETWEEN_LOGS
            _log.warning(message + " PE_MAX_CONNECTIONS is the limit. This is logged once a minute.", len(self._open))

    def _report(self) -> None:
        if self._metrics is not None:
            self._metrics.set_connections(len(self._open))

    def _check_later(self, loop: asyncio.AbstractEventLoop) -> None:
        shortest = min(wait.seconds for wait in self._waits)
        loop.call_later(min(_SECONDS_BETWEEN_CHECKS, shortest / 2), self._check, loop)

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        """End the waits that have lasted too long."""
        now = loop.time()
        for wait in self._waits:
            while wait.since:
                connection, since = next(iter(wait.since.items()))
                if now - since < wait.seconds:
                    break
                del wait.since[connection]
                connection.time_out()
        self._checking = bool(self._open)
        if self._checking:
            self._check_later(loop)
