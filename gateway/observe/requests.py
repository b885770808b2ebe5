"""What is told of each request, and the line of the log that tells it."""

import json
import logging
from typing import Final, NamedTuple

import orjson

from gateway.observe.stages import Stages

# What orchestrators ask every few seconds would drown the rest of the log.
_UNREMARKABLE: Final = frozenset({"/healthz", "/readiness", "/metrics"})

_log = logging.getLogger("gateway.access")


class Answered(NamedTuple):
    """One request, over.

    ``route`` is the route's pattern: paths as sent would make the number of time series anyone's choice, and tell a key
    in the query to the log. ``status`` is 499 if nobody waited for the answer. ``error``: what it is the answer to.
    ``bytes``: of its body. ``client``: the address that asked.
    """

    request_id: str
    client: str | None
    route: str
    status: int
    error: str | None
    seconds: float
    bytes: int
    stages: Stages


def log(request: Answered) -> None:
    """One line: no payload, no key, no path."""
    level = logging.DEBUG if request.route in _UNREMARKABLE and request.status < 500 else logging.INFO
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
    # JSON also keeps a client's odd characters from forging lines of the log, and escapes from terminals.
    line = orjson.dumps(entry)
    _log.log(level, line.decode() if line.isascii() else json.dumps(entry))
