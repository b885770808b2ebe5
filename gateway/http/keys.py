"""API keys: who may ask for embeddings, where anybody may not.

A key is looked for where the incumbent looks: in the query as ``api_key``, else as ``Authorization: Bearer``, else in a
JSON body as ``api_key``. The first one found decides. Keys are compared by their digests, all of them each time, so
that how long an answer takes tells nothing of them.
"""

import hmac
from collections.abc import Iterable
from hashlib import sha256
from typing import Any, Final
from urllib.parse import parse_qs

from starlette.types import Scope

from gateway.errors import Unauthorized
from gateway.http.body import is_json
from gateway.http.exchange import exchange_of, header

# As the incumbent's; what a browser loads of the page and of the documentation lies below the last.
_OPEN: Final = frozenset({"/", "/docs", "/redoc", "/openapi.json", "/info", "/healthz", "/readiness"})
_OPEN_BELOW: Final = ("/docs/", "/page/")
_METRICS: Final = "/metrics"


class ApiKeys:
    """Those that open the server; without any, it is open to everybody.

    Args:
        open_metrics: whether /metrics needs no key.
    """

    def __init__(self, keys: Iterable[str], open_metrics: bool) -> None:
        self._digests = [_digest(key) for key in keys]
        self._open = _OPEN | {_METRICS} if open_metrics else _OPEN

    def check(self, scope: Scope) -> None:
        """Lets a request pass, or leaves it to ``check_body``, which reading a JSON body calls.

        Raises:
            Unauthorized: it has no key, or a wrong one.
        """
        if not self._digests or self._is_open(scope):
            return
        if (key := _in_query(scope) or _in_header(scope)) is not None:
            self._require(key)
        elif scope["method"] == "POST" and is_json(scope):
            exchange_of(scope).awaits_key = self.check_body
        else:
            raise Unauthorized

    def check_body(self, body: Any) -> None:
        """The same by a JSON body; None if that could not be read.

        Raises:
            Unauthorized: it has no key, or a wrong one.
        """
        key = body.get("api_key") if isinstance(body, dict) else None
        self._require(key if isinstance(key, str) else "")

    def _require(self, key: str) -> None:
        digest = _digest(key)
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        if not any(matches):
            raise Unauthorized

    def _is_open(self, scope: Scope) -> bool:
        path: str = scope["path"]
        return scope["method"] in ("GET", "HEAD") and (path in self._open or path.startswith(_OPEN_BELOW))


def _digest(key: str) -> bytes:
    return sha256(key.encode(errors="surrogatepass")).digest()


def _in_query(scope: Scope) -> str | None:
    query: bytes = scope["query_string"]
    return parse_qs(query.decode("latin-1")).get("api_key", [None])[0] if b"api_key" in query else None


def _in_header(scope: Scope) -> str | None:
    scheme, _, key = header(scope, b"authorization").partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None
