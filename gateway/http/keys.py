"""API-key authentication, for servers that have keys.

The key is looked for where the incumbent looks: in the query as `api_key`, else as `Authorization: Bearer`, else in the
body as `api_key`: JSON, or a form. The first key found decides. Keys are compared by their digests, and always with all
known keys, so that the time of a response reveals nothing about them.
"""

import hmac
from collections.abc import Iterable
from typing import Final
from urllib.parse import parse_qs

from starlette.types import Scope

from gateway.errors import Unauthorized
from gateway.http.headers import header, is_form, is_json
from gateway.http.keys_file import KeysFile, digest

# These paths are open as on the incumbent. Browsers load the files of the playground and of the documentation from
# below the prefixes.
_OPEN_PATHS: Final = frozenset({"/", "/docs", "/redoc", "/openapi.json", "/info", "/healthz", "/readiness"})
_OPEN_PREFIXES: Final = ("/docs/", "/page/")
_METRICS: Final = "/metrics"


class ApiKeys:
    """The keys of a server. A server without keys is open to everybody.

    Args:
        keys: the known keys.
        open_metrics: whether `/metrics` needs no key.
        file: more keys, which can change.
    """

    def __init__(self, keys: Iterable[str], open_metrics: bool, file: KeysFile | None = None) -> None:
        self._fixed = [digest(key) for key in keys]
        self._file = file
        self._open_paths = _OPEN_PATHS | {_METRICS} if open_metrics else _OPEN_PATHS

    @property
    def configured(self) -> bool:
        """Whether this server has keys, or a file for them."""
        return bool(self._fixed) or self._file is not None

    @property
    def _digests(self) -> list[bytes]:
        return self._fixed if self._file is None else self._fixed + self._file.digests

    def check_head(self, scope: Scope) -> bool:
        """Authenticate a request by its head.

        Returns:
            Whether the request is authenticated. If not, its key may be in its body: `check_body` decides.

        Raises:
            Unauthorized: the request has no key, or a wrong one.
        """
        if not self._digests or self.is_open(scope["method"], scope["path"]):
            return True
        if (key := _in_query(scope) or _in_header(scope)) is not None:
            self._require(key)
            return True
        if scope["method"] == "POST" and (is_json(scope) or is_form(scope)):
            return False
        raise Unauthorized

    def known_in_head(self, scope: Scope) -> bytes | None:
        """The digest of the key in a request's head; None if there is none, or no such key."""
        key = (_in_query(scope) or _in_header(scope)) if self._digests else None
        return self._known(key) if key is not None else None

    def check_body(self, key: str | None) -> bytes:
        """Authenticate a request by the field `api_key` of its body.

        Args:
            key: None if the body has none, or is neither JSON nor a form.

        Returns:
            The digest of its key.

        Raises:
            Unauthorized: the body has no key, or a wrong one.
        """
        return self._require(key or "")

    def _require(self, key: str) -> bytes:
        if (known := self._known(key)) is None:
            raise Unauthorized
        return known

    def _known(self, key: str) -> bytes | None:
        asked = digest(key)
        matches = [hmac.compare_digest(asked, known) for known in self._digests]
        return asked if any(matches) else None

    def is_open(self, method: str, path: str) -> bool:
        """Whether a request needs no key although the server has keys."""
        return method in ("GET", "HEAD") and (path in self._open_paths or path.startswith(_OPEN_PREFIXES))


def _in_query(scope: Scope) -> str | None:
    query: bytes = scope["query_string"]
    return parse_qs(query.decode("latin-1")).get("api_key", [None])[0] if b"api_key" in query else None


def _in_header(scope: Scope) -> str | None:
    scheme, _, key = header(scope, b"authorization").partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None
