"""Write one log line per request."""

import json
import logging
from typing import Final, NamedTuple

import orjson

from gateway.observe.stages import Stages

# Orchestrators request these routes every few seconds, so they are logged only if they fail.
_QUIET_ROUTES: Final = frozenset({"/healthz", "/readiness", "/metrics"})

_log = logging.getLogger("gateway.access")


class FinishedRequest(NamedTuple):
    """The facts about a finished request that its log line and its metrics report.

    Attributes:
        request_id: the id that the client sent, or a new one.
        client: the address of the client.
        route: the pattern of the route. The path as sent is not used: it could create any number of time series, and
            its query may contain an API key.
        status: the HTTP status; 499 if the client disconnected before the response.
        error: the class of the error that the response reports.
        seconds: the duration.
        bytes: the size of the request's body.
        stages: the time that each stage took.
    """

    request_id: str
    client: str | None
    route: str
    status: int
    error: str | None
    seconds: float
    bytes: int
    stages: Stages


def log(request: FinishedRequest) -> None:
    """Log a request as one line of JSON, without payload, API key or path."""
    level = logging.DEBUG if request.route in _QUIET_ROUTES and request.status < 500 else logging.INFO
    if not _log.isEnabledFor(level):
        return
    entry = {
        "request_id": request.request_id,
        "client": request.client,
        "route": request.route,
        "status": request.status,
        **({"error": request.error} if request.error else {}),
        "items": request.stages.items,
        "bytes": request.bytes,
        "ms": round(request.seconds * 1e3, 2),
        **{stage: round(spent * 1e3, 2) for stage, spent in request.stages.seconds.items()},
    }
    # ASCII JSON, so that a client's characters can neither forge a log line nor control a terminal.
    line = orjson.dumps(entry)
    _log.log(level, line.decode() if line.isascii() else json.dumps(entry))
