"""Read a request's path as clients mean it: without a proxy's prefix, and without slashes too many."""

import re
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

_SLASHES: Final = re.compile("//+")


class Paths:
    """Outermost middleware: replace the path by the one that routes and open paths are compared with.

    People paste addresses with a slash at the end, and clients append `/perception_encoder/...` to them. A redirect
    would make them send the body again, and some would send none, so the path is corrected here.

    Args:
        root_path: the path prefix at which a proxy serves this server, "" for none. It is removed if the proxy has not
            removed it. Documents that name URLs include it.
    """

    def __init__(self, app: ASGIApp, root_path: str = "") -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path: str = scope["path"]
            if self._root_path or "//" in path or path.endswith("/"):
                scope = {**scope, "root_path": self._root_path, "path": self._corrected(path)}
        await self._app(scope, receive, send)

    def _corrected(self, path: str) -> str:
        path = _SLASHES.sub("/", path)
        if path.startswith(f"{self._root_path}/"):
            path = path.removeprefix(self._root_path)
        return path.removesuffix("/") or "/"
