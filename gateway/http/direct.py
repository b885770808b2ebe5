"""The routes that carry the load, called by their path, past FastAPI's routing and dependencies.

Those take longer than a short answer does, and these routes have no use for them: they read their bodies themselves and
return a ``Response``. They stay declared to FastAPI, which documents them and answers whatever is asked of them in
another way than by a plain POST.
"""

from collections.abc import Sequence
from typing import Final

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.http.dependencies import VALIDATED
from gateway.http.errors import answer_to

_POST: Final = {"POST"}


class Direct:
    """Innermost: asks the endpoint itself where it takes a ``Request`` and nothing else, the app otherwise."""

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._routes = {r.path: r for r in routes if isinstance(r, APIRoute) and r.methods == _POST}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._routes.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if route is None or VALIDATED in scope["query_string"]:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        request = Request(scope, receive, send)
        try:
            response = await route.endpoint(request)
        except Exception as error:
            if (answer := answer_to(request, error)) is None:
                raise
            response = answer
        await response(scope, receive, send)
