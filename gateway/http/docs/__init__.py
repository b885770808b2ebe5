"""Serve Swagger UI for /openapi.json at `/docs`. Its two files come from fastapi-offline, not from another host."""

from pathlib import Path
from typing import Final

import fastapi_offline
from fastapi import FastAPI, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from gateway.http.static import secured, serve

_FILES: Final = Path(__file__).parent / "static"
_LINK: Final = b'<a href="./">Try it in the browser</a>'
_SWAGGER: Final = Path(fastapi_offline.__file__).parent / "static"
_SWAGGER_FILES: Final = ("swagger-ui.css", "swagger-ui-bundle.js")

# Swagger UI shows small pictures as data: URLs. The rest is as strict as the playground's policy.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)


def install(app: FastAPI, playground: bool) -> None:
    """Add the page, and its files below `/docs/`.

    Args:
        playground: whether there is a playground for the page to link to.
    """

    page = (_FILES / "index.html").read_bytes()  # Opening a file takes a thread, and three times as long.
    if not playground:
        page = page.replace(_LINK, b"")

    @app.api_route("/docs", methods=["GET", "HEAD"], include_in_schema=False)
    async def docs(request: Request) -> Response:
        # The page's own links are relative, and would lead astray from below `/docs/`.
        if request.scope.get("raw_path", b"").endswith(b"/"):
            return RedirectResponse("../docs")
        return secured(HTMLResponse(page), _POLICY)

    serve(app, "/docs", _FILES, *(_SWAGGER / name for name in _SWAGGER_FILES))
