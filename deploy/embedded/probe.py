"""One short HTTP request to our own Triton or gateway, without proxies and redirects."""

import http.client
import json
from typing import Any, Final

_TIMEOUT_S: Final = 2.0


def request(method: str, host: str, port: int, path: str) -> tuple[int, Any] | None:
    """Send a request without a body.

    Returns:
        The status and the decoded JSON body (None if the body is not JSON); None if there is no response in time.
    """
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
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
