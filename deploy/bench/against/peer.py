"""A server to measure: which interface it has, and what it refuses."""

import http.client
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from deploy.bench.against.interfaces import CONVENTIONS, KINDS, OPENAI_PATHS, Embeddings, Interface, Kind, NotOffered

_TIMEOUT_S: Final = 300.0  # The incumbent loads its weights at the first request.
KEY_VARIABLE: Final = "PE_AGAINST_KEY"
_SHOWN: Final = 200  # characters of an error
_SAME: Final = 0.9999


class PeerFailed(Exception):
    """The server cannot be measured: not reached, no key, no known interface, or errors only."""


@dataclass(frozen=True)
class Reply:
    """The response to one request."""

    status: int
    body: bytes
    has_length: bool

    @property
    def message(self) -> str:
        """Status and error in words."""
        try:
            found = json.loads(self.body)
        except ValueError:
            found = self.body.decode(errors="replace")
        for key in ("error", "message", "detail"):
            if isinstance(found, dict) and found.get(key):
                found = found[key]
        words = found if isinstance(found, str) else json.dumps(found)
        return f"{self.status} {' '.join(words.split())[:_SHOWN]}".strip()


@dataclass(frozen=True)
class Peer:
    """A server's address and interface.

    Args:
        name: in messages and tables.
        url: `http://host:port`, and a path if the server has a prefix.
        interface: how it is asked.
        headers: of each request.
    """

    name: str
    url: str
    interface: Interface
    headers: Mapping[str, str]

    @property
    def origin(self) -> str:
        """The URL without its path."""
        parts = urlsplit(self.url)
        return f"http://{parts.netloc}"

    def path(self, route: str) -> str:
        """Return the path of a route below the URL's own."""
        return urlsplit(self.url).path.rstrip("/") + route

    def send(self, method: str, route: str, body: Any = None) -> Reply:
        """Send one request.

        Raises:
            PeerFailed: no response.
        """
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
        data = None if body is None else json.dumps(body).encode()
        kind = {} if body is None else {"Content-Type": "application/json"}
        try:
            connection.request(method, self.path(route), data, {**kind, **self.headers})
            answer = connection.getresponse()
            return Reply(answer.status, answer.read(), answer.headers.get("Content-Length") is not None)
        except (OSError, http.client.HTTPException) as error:
            raise PeerFailed(f"{self.name} cannot be reached at {self.url}: {error!r}") from error
        finally:
            connection.close()

    def embed(self, request: tuple[str, Any]) -> Embeddings:
        """Return the embeddings [N, D] that one request asks for.

        Raises:
            NotOffered: the server refuses the request, or its response has another form.
            PeerFailed: no response.
        """
        reply = self.send("POST", *request)
        if reply.status != 200:
            raise NotOffered(reply.message)
        try:
            return self.interface.embeddings(json.loads(reply.body))
        except ValueError as error:
            raise NotOffered(str(error)) from error


def find(name: str, url: str, kind: Kind | None, model: str | None, default_model: str, key: str | None) -> Peer:
    """Find out which interface a server has.

    Args:
        name: of the server, for messages.
        url: its address.
        kind: its interface; None to try both.
        model: to name in requests; None for the server's only model by OpenAI's interface, or `default_model`.
        default_model: the variant that we serve.
        key: its API key, sent as a bearer token.

    Raises:
        PeerFailed: with a reason for each interface that was tried.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise PeerFailed(f"{url!r} is not a URL of the form http://host:port. TLS cannot be measured.")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    start = Peer(name, url, Interface("roboflow"), headers)
    reasons = []
    for tried in (kind,) if kind else KINDS:
        try:
            if tried == "roboflow":
                return _answering(replace(start, interface=Interface("roboflow", model or default_model)))
            return _openai(start, model or _listed_model(start) or default_model)
        except NotOffered as error:
            reasons.append(f"{tried}: {error}")
    raise PeerFailed(f"{name} does not answer in a known interface. " + "; ".join(reasons))


def _openai(peer: Peer, model: str) -> Peer:
    reasons = []
    for path in OPENAI_PATHS:
        try:
            found = _answering(replace(peer, interface=Interface("openai", model, path)))
        except NotOffered as error:
            reasons.append(f"{path}: {error}")
        else:
            return replace(found, interface=_with_images(found))
    raise NotOffered(", ".join(reasons))


def _answering(peer: Peer) -> Peer:
    """Return the peer if it embeds a text.

    Raises:
        NotOffered: it does not.
        PeerFailed: it needs a key, or answers in a form that the load generator cannot read.
    """
    path, body = peer.interface.texts_body(["a photo of a cat"])
    reply = peer.send("POST", path, body)
    if reply.status in (401, 403):
        raise PeerFailed(f"{peer.name} wants an API key ({reply.message}): set {KEY_VARIABLE} in the environment")
    if reply.status != 200:
        raise NotOffered(reply.message)
    try:
        peer.interface.embeddings(json.loads(reply.body))
    except ValueError as error:
        raise NotOffered(str(error)) from error
    if not reply.has_length:
        raise PeerFailed(f"{peer.name} sends responses without Content-Length, which the load generator cannot read")
    return peer


def _listed_model(peer: Peer) -> str | None:
    """Return the first model that the server lists."""
    for path in ("/v1/models", "/models"):
        reply = peer.send("GET", path)
        try:
            return str(json.loads(reply.body)["data"][0]["id"])
        except (ValueError, LookupError, TypeError):
            continue
    return None


def _with_images(peer: Peer) -> Interface:
    """Find out how the server takes images.

    Two files of the same pixels must give one embedding, and other pixels another. A server that embeds the URI as a
    text fails one of the two: the files differ as texts, and texts that are cut off after the same beginning are equal.
    """
    same, again, other = _png("red", 0), _png("red", 9), _png("blue", 9)
    for convention in CONVENTIONS:
        interface = replace(peer.interface, images=convention)
        asked = replace(peer, interface=interface)
        try:
            rows = np.concatenate([asked.embed(interface.images_body([file])) for file in (same, again, other)])
        except (NotOffered, ValueError):
            continue
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        if rows[0] @ rows[1] >= _SAME > rows[0] @ rows[2]:
            return interface
    return peer.interface


def _png(colour: str, level: int) -> bytes:
    image = Image.new("RGB", (64, 64), colour)
    image.paste("white", (16, 8, 40, 60))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=level)
    return buffer.getvalue()
