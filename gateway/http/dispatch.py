"""Call the endpoints that carry the load without FastAPI's routing and dependencies.

FastAPI documents these routes and answers other methods. Calling the same routes through the router of FastAPI 0.165
costs 20.6 % more instructions for a cached text request (callgrind, whole app in process). With the routes first in the
app's own router it costs 9.4 %, and 6.8 % if their paths are also compared as strings.
"""

from collections.abc import Sequence
from typing import Final

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.errors import Unauthorized
from gateway.http.error_responses import answer_to
from gateway.http.record import record_of

_POST: Final = "POST"


class EndpointRoute(APIRoute):
    """A route whose POST requests go straight to its endpoint, which takes a `Request` and returns a `Response`.

    FastAPI documents the route and the parameters of its dependencies. It does not evaluate the dependencies of POST
    routes: the endpoint reads body and query itself. Other methods are FastAPI's.
    """

    @property
    def takes_post(self) -> bool:
        """Whether POST requests belong to this route."""
        return self.methods is not None and _POST in self.methods

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != _POST or not self.takes_post:
            await super().handle(scope, receive, send)
            return
        scope["route"] = self
        request = Request(scope, receive, send)
        try:
            response = await self.endpoint(request)
            if not record_of(scope).authenticated:  # The endpoint has not read the body that should hold the key.
                raise Unauthorized
        except Exception as error:
            if (answer := answer_to(request, error)) is None:
                raise
            response = answer
        await response(scope, receive, send)


class Dispatch:
    """Innermost middleware: find an `EndpointRoute` by its path. The app answers all other requests.

    FastAPI's router calls `EndpointRoute.handle`, too, so that a request takes the same path however it is routed.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._routes = {route.path: route for route in routes if isinstance(route, EndpointRoute) and route.takes_post}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_post = scope["type"] == "http" and scope["method"] == _POST
        if is_post and (route := self._routes.get(scope["path"])) is not None:
            await route.handle(scope, receive, send)
        else:
            await self._app(scope, receive, send)
