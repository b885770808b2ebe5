"""Requests to one gateway, which are sent again until they are answered."""

import asyncio
import json
import random
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2

from deploy.bulk import retry_after
from deploy.bulk.adaptive_limit import AdaptiveLimit
from deploy.bulk.errors import ServerError

_TIMEOUT: Final = httpx2.Timeout(120, connect=10)
# The server is busy, or has a fault: the request is sent again.
_BUSY: Final = (429, 503)
_FAULTS: Final = (500, 502, 504)
_BACKOFF_SECONDS: Final = 0.5
_MAX_BACKOFF_SECONDS: Final = 15.0
# The request is at fault, and the server works.
_ABOUT_ITEMS: Final = (400, 413, 415, 422)
# After this many failed attempts, while other requests succeeded, the item is at fault.
_ATTEMPTS: Final = 4
Started = Callable[[], None]
"""Called before each attempt of a request."""


def already_started() -> None:
    """The `Started` of a request that repeats a part of an earlier one. Such a request gets the next free slot."""


@dataclass(frozen=True, slots=True)
class Refused(Exception):
    """The server refused one request as a whole. `index` is the item at fault, if the server names it."""

    message: str
    index: int | None


class RetryingClient:
    """A client of one gateway, for one run.

    Args:
        url: of the gateway.
        api_key: if the gateway wants one.
        give_up_seconds: the time without any success after which the server counts as gone.
        say: takes a line for the user, when the server stops answering and when it is back.

    Attributes:
        url: of the gateway, without a slash at its end.
        limit: of the requests in flight.
        sent_again: how many requests were refused or lost, and sent again.

    Raises:
        ServerError: `url` is no URL of a server.
    """

    def __init__(self, url: str, api_key: str | None, give_up_seconds: float, say: Callable[[str], None]) -> None:
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # a port above 65535, or half of an IPv6 address
            known = False
        if not known:
            raise ServerError(f"{url!r} is no URL of a server. Expected something like http://127.0.0.1:9001.")
        self.url = parts.geturl().rstrip("/")
        self._give_up_seconds = give_up_seconds
        self._say = say
        self._last_success = time.monotonic()
        self._silent = False
        self.limit = AdaptiveLimit()
        self.sent_again = 0
        # One client for each request in flight, because the pool of a client looks at all of its connections for each
        # request. The one that was used last is used next.
        self._idle: list[httpx2.AsyncClient] = []
        self._all: list[httpx2.AsyncClient] = []
        # Reading the certificates takes longer than most other things at the start.
        self._tls = httpx2.create_ssl_context() if parts.scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._headers = {"Accept": "application/x-npy", "User-Agent": "pe-embed"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        # No proxy leads to this machine, whatever the environment says.
        self._use_proxy = parts.hostname not in ("localhost", "127.0.0.1", "::1")

    async def info(self) -> Any:
        """Get `/info`, by one request.

        Raises:
            ServerError: there is no such server.
        """
        try:
            client = self._new_client()
            self._idle.append(client)
            response = await client.get(f"{self.url}/info", headers={"Accept": "application/json"})
        except httpx2.TransportError as error:
            raise ServerError(
                f"No server answers at {self.url} ({type(error).__name__}: {error}). Start one with `make serve`, or "
                "name another with --url."
            ) from None
        except httpx2.InvalidURL as error:
            raise ServerError(f"{self.url} is no URL: {error}.") from None
        if response.status_code != 200:
            location = response.headers.get("Location")
            where = f" to {location}" if location else ""
            raise ServerError(
                f"{self.url} is no Perception Encoder Server: /info has status {response.status_code}{where}."
            )
        try:
            return response.json()
        except ValueError:
            raise ServerError(f"{self.url} is no Perception Encoder Server: /info is not JSON.") from None

    async def post(self, path: str, body: bytes, kind: str, started: Started) -> httpx2.Response:
        """Send a request until it is answered.

        Args:
            path: with the query.
            kind: the media type of the body.
            started: called before each attempt.

        Raises:
            Refused: the request is at fault.
            ServerError: the server is.
        """
        begun = time.monotonic()
        attempt = 0
        while True:
            attempt += 1
            await self.limit.acquire(again=attempt > 1 or started is already_started)
            started()
            try:
                # A request that waits for its next attempt holds no slot. Others can show whether the server answers.
                response = await self._attempt(path, body, kind)
            except httpx2.TransportError as error:
                status, asked = 0, None
                trouble = f"no answer ({type(error).__name__}{f': {error}' if str(error) else ''})"
            else:
                status, asked = response.status_code, retry_after.seconds(response.headers.get("Retry-After"))
                if status not in (*_BUSY, *_FAULTS):
                    return self._checked(response)
                trouble = f"status {status}: {_message(response)[0]}"
            self.sent_again += 1
            if status not in _BUSY and attempt >= _ATTEMPTS and self._last_success > begun:
                raise Refused(f"The server failed {attempt} times: {trouble}", None)
            if time.monotonic() - max(self._last_success, begun) > self._give_up_seconds:
                raise ServerError(
                    f"{self.url} gave no embedding for {self._give_up_seconds:g} s, at last {trouble}. Finished rows "
                    "are kept: run the same command again to continue."
                )
            if status != 429:
                self._missed(trouble)
            await asyncio.sleep(_delay(attempt, asked))

    async def close(self) -> None:
        """Close all connections."""
        for client in self._all:
            await client.aclose()

    async def _attempt(self, path: str, body: bytes, kind: str) -> httpx2.Response:
        """Send a request once, in the slot that the caller has acquired. Gives the slot back."""
        sent = time.monotonic()
        client = self._idle.pop() if self._idle else self._new_client()
        try:
            response = await client.post(self.url + path, content=body, headers={"Content-Type": kind})
            if response.is_success:
                self.limit.succeeded(time.monotonic() - sent)
            elif response.status_code in (429, 504):
                self.limit.refused(sent)
            return response
        finally:
            self._idle.append(client)
            self.limit.release()

    def _checked(self, response: httpx2.Response) -> httpx2.Response:
        """Return a success. Raise the error of a response that says that another attempt is useless."""
        if response.is_success or response.status_code in _ABOUT_ITEMS:
            self._heard()
        if response.is_success:
            return response
        raise self._refusal(response)

    def _refusal(self, response: httpx2.Response) -> Exception:
        message, index = _message(response)
        status = response.status_code
        if status in (401, 403):
            return ServerError(f"{self.url} refuses the API key ({message}). Give one by --api-key or PE_API_KEY.")
        if status == 404 or response.is_redirect:
            return ServerError(f"{self.url} answers with {status}: {response.headers.get('Location') or message}")
        return Refused(message, index)

    def _heard(self) -> None:
        self._last_success = time.monotonic()
        if self._silent:
            self._silent = False
            self._say(f"{self.url} answers again.")

    def _missed(self, trouble: str) -> None:
        if not self._silent:
            self._silent = True
            self._say(f"{self.url}: {trouble}. Trying again for {self._give_up_seconds:g} s ...")

    def _new_client(self) -> httpx2.AsyncClient:
        client = httpx2.AsyncClient(
            headers=self._headers, timeout=_TIMEOUT, verify=self._tls, trust_env=self._use_proxy
        )
        self._all.append(client)
        return client


def _message(response: httpx2.Response) -> tuple[str, int | None]:
    """The message of an error, and the index of the item that it is about."""
    try:
        body = response.json()
        message, index = body.get("message") or body["detail"], body.get("index")
    except (ValueError, KeyError, AttributeError):
        return response.text[:200] or response.reason_phrase, None
    return message if isinstance(message, str) else json.dumps(message)[:500], index if isinstance(index, int) else None


def _delay(attempt: int, asked: float | None) -> float:
    """Seconds until the next attempt: what the server asks for, or else exponential backoff. Jitter keeps requests that
    were refused together from coming together again."""
    backoff = min(_MAX_BACKOFF_SECONDS, _BACKOFF_SECONDS * 2.0 ** (attempt - 1))
    if asked is not None:
        return asked + random.uniform(0, backoff / 2)
    return backoff * random.uniform(0.5, 1)
