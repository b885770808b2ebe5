"""Files that browsers are given, with the headers that keep a page to what it is made of."""

from pathlib import Path
from typing import Final

from fastapi import FastAPI, Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

_HEADERS: Final = {
    "cache-control": "no-cache",  # kept, but asked after: a new release's page must not run an old one's script
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def secured(response: Response, policy: str | None = None) -> Response:
    """The response with those headers, and a page's Content-Security-Policy."""
    response.headers.update(_HEADERS)
    if policy is not None:
        response.headers["content-security-policy"] = policy
    return response


def serve(app: FastAPI, path: str, directory: Path) -> None:
    """Adds a directory's files below ``path``. As a route: a mount looks for them amiss behind a path prefix."""
    files = StaticFiles(directory=directory)

    @app.api_route(f"{path}/{{file:path}}", methods=["GET", "HEAD"], include_in_schema=False)
    async def file(request: Request, file: str) -> Response:
        return secured(await files.get_response(files.get_path({"type": "http", "path": file}), request.scope))
