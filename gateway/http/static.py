"""Serve static files to browsers, with security headers."""

from pathlib import Path
from typing import Final

from fastapi import FastAPI, Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

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


def serve(app: FastAPI, path: str, directory: Path) -> None:
    """Serve a directory's files below `path`.

    This is a route, because a mount does not find the files behind a path prefix.
    """
    files = StaticFiles(directory=directory)

    @app.api_route(f"{path}/{{file:path}}", methods=["GET", "HEAD"], include_in_schema=False)
    async def file(request: Request, file: str) -> Response:
        return secured(await files.get_response(files.get_path({"type": "http", "path": file}), request.scope))
