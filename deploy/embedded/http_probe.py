"""One short HTTP request to a server of ours: no proxy, no redirect, no patience."""

import http.client
import json
from typing import Any

_PATIENCE_S = 2.0


def request(method: str, host: str, port: int, path: str) -> tuple[int, Any] | None:
    """Status and decoded JSON body (None if it is something else); None if nothing answered, or not in time."""
    connection = http.client.HTTPConnection(host, port, timeout=_PATIENCE_S)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        status, body = response.status, response.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    try:
        return status, json.loads(body)
    except ValueError:
        return status, None
