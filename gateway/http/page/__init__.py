"""Serve the playground at `/`: a static page that calls this server by relative URLs, so that a path prefix works."""

from pathlib import Path
from typing import Final

from fastapi import FastAPI
from starlette.responses import HTMLResponse, Response

from gateway.http.static import secured, serve

_FILES: Final = Path(__file__).parent / "static"

# Inline code and other hosts are forbidden. The page shows the visitor's pictures by blob: URLs.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)


def install(app: FastAPI) -> None:
    """Add the page, and its files below `/page/`."""

    page = (_FILES / "index.html").read_bytes()  # Opening a file takes a thread, and three times as long.

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def playground() -> Response:
        return secured(HTMLResponse(page), _POLICY)

    serve(app, "/page", _FILES)
