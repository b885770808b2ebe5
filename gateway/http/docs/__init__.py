"""``/docs``: Swagger UI over /openapi.json, with nothing from elsewhere: its two files come from fastapi-offline."""

from pathlib import Path
from typing import Final

import fastapi_offline
from fastapi import FastAPI
from starlette.responses import FileResponse, Response

from gateway.http.static import secured, serve

_FILES: Final = Path(__file__).parent / "static"
_SWAGGER: Final = Path(fastapi_offline.__file__).parent / "static"

# Its script sets styles and shows small pictures of its own; everything else is as strict as the playground's.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)


def install(app: FastAPI) -> None:
    """Adds the page, and what it is made of below ``/docs/``."""

    @app.api_route("/docs", methods=["GET", "HEAD"], include_in_schema=False)
    async def docs() -> Response:
        return secured(FileResponse(_FILES / "index.html"), _POLICY)

    @app.get("/docs/swagger-ui.css", include_in_schema=False)
    async def style() -> Response:
        return secured(FileResponse(_SWAGGER / "swagger-ui.css"))

    @app.get("/docs/swagger-ui-bundle.js", include_in_schema=False)
    async def script() -> Response:
        return secured(FileResponse(_SWAGGER / "swagger-ui-bundle.js"))

    serve(app, "/docs", _FILES)
