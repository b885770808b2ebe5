"""Serve static files to browsers, with security headers."""

import hashlib
import mimetypes
from functools import cache
from pathlib import Path
from typing import Final

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from gateway.http.headers import header

_HEADERS: Final = {
    "cache-control": "no-cache",  # Browsers must revalidate, or a new release's page might run an old release's script.
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def secured(response: Response, policy: str | None = None) -> Response:
    """Add the security headers to a response.

    Args:
        policy: the Content-Security-Policy, for a page.
    """
    response.headers.update(_HEADERS)
    if policy is not None:
        response.headers["content-security-policy"] = policy
    return response


class _StaticFile:
    """A file in memory. Responses that nobody reads then hold no file descriptor.

    Args:
        path: of the file, which is read now.
    """

    def __init__(self, path: Path) -> None:
        self._content = path.read_bytes()
        self._media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        self._etag = f'"{hashlib.sha256(self._content).hexdigest()}"'

    def response(self, request: Request) -> Response:
        """The file; no content if the client has it already."""
        known = self._etag in header(request.scope, b"if-none-match")
        response = Response(status_code=304) if known else Response(self._content, media_type=self._media_type)
        response.headers["etag"] = self._etag
        return secured(response)


@cache
def _load(path: Path) -> _StaticFile:
    return _StaticFile(path)


def serve(app: FastAPI, path: str, directory: Path, *others: Path) -> None:
    """Serve a directory's files, and files from elsewhere, below `path`.

    This is a route, because a mount does not find the files behind a path prefix.
    """
    files = {str(found.relative_to(directory)): _load(found) for found in directory.rglob("*") if found.is_file()}
    files |= {other.name: _load(other) for other in others}

    @app.api_route(f"{path}/{{file:path}}", methods=["GET", "HEAD"], include_in_schema=False)
    async def static_file(request: Request, file: str) -> Response:
        if (found := files.get(file)) is None:
            raise HTTPException(404)
        return found.response(request)
