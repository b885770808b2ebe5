"""Send pictures and texts to the gateway: several at a time, and again where that may help."""

import asyncio
import io
import json
import random
import secrets
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx2
import numpy as np
from numpy.typing import NDArray

from deploy.bulk import retry_after
from deploy.bulk.adaptive_limit import AdaptiveLimit
from deploy.bulk.errors import ItemError, ServerError, SpaceChanged, too_long
from deploy.bulk.rows import EmbeddingSpace
from deploy.bulk.sources.item import Embeddable, Frames

Embedding = NDArray[np.float32]

# In one request. More of them save little, and one bad image means that all are sent again.
IMAGES_AT_ONCE: Final = 16
TEXTS_AT_ONCE: Final = 64
BYTES_AT_ONCE: Final = 4 * 2**20
_IMAGE_PATH: Final = "/perception_encoder/embed_image"
_TEXT_PATH: Final = "/perception_encoder/embed_text"
_VARIANT: Final = "perception_encoder_version_id"
_TIMEOUT: Final = httpx2.Timeout(120, connect=10)
# Answers that say something about the server at that moment.
_BUSY: Final = (429, 503)
_FAULTS: Final = (500, 502, 504)
_BACKOFF_SECONDS: Final = 0.5
_MOST_BACKOFF_SECONDS: Final = 15.0
# Statuses of requests that are at fault themselves.
_ABOUT_ITEMS: Final = (400, 413, 415, 422)
# After as many, if other requests succeeded meanwhile, it is the item that is at fault.
_ATTEMPTS: Final = 4
# Called before each request of a call. None: what is to be sent is a part of a request that was sent before.
_Started = Callable[[], None] | None


@dataclass(frozen=True, slots=True)
class _Refused(Exception):
    """The server refused one request as a whole. `index` is the item at fault, if the server names it."""

    message: str
    index: int | None


class Embedder:
    """A client of one gateway, for one run: `async with Embedder(url) as embedder`.

    Args:
        url: of the gateway.
        api_key: if the gateway wants one.
        variant: if the gateway serves several.
        give_up_seconds: the time without any embedding after which the server counts as gone.
        say: takes a line for the user, when the server stops answering and when it is back.

    Attributes:
        space: of all embeddings.
        image_size: H, W of the pixels that the model sees of an image.
        max_bytes: of one image file, by the gateway's own limit.
        limit: of the requests in flight.
        sent_again: how many requests were refused or lost, and sent again.
    """

    space: EmbeddingSpace
    image_size: tuple[int, int]
    max_bytes: int

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        variant: str | None = None,
        give_up_seconds: float = 300,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # a port above 65535, or half of an IPv6 address
            known = False
        if not known:
            raise ServerError(f"{url!r} is no URL of a server. Expected something like http://127.0.0.1:9001.")
        self.url = parts.geturl().rstrip("/")
        self._variant = variant
        self._give_up_seconds = give_up_seconds
        self._say = say
        self._last_success = time.monotonic()
        self._silent = False
        self._max_images = IMAGES_AT_ONCE
        self._max_texts = TEXTS_AT_ONCE
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

    async def __aenter__(self) -> Self:
        """Ask the server what it serves.

        Raises:
            ServerError: there is no such server, or it does not serve the variant.
        """
        try:
            info = await self._info()
            models: dict[str, dict[str, Any]] = info["models"]
            limits = info["limits"]
            if self._variant is None and len(models) == 1:
                (self._variant,) = models
            if self._variant not in models:
                served = ", ".join(sorted(models)) or "none yet"
                if self._variant:
                    raise ServerError(f"{self.url} does not serve {self._variant}. Served: {served}.")
                raise ServerError(
                    f"{self.url} serves several variants or none. Name one with --variant. Served: {served}."
                )
            chosen = models[self._variant]
            self.space = EmbeddingSpace(chosen["embedding_space"], chosen["embed_dim"])
            height, width = chosen["image_size"]
            self.image_size = (int(height), int(width))
            self.max_bytes = int(limits["max_body_bytes"])
            self._max_images = min(IMAGES_AT_ONCE, int(limits["max_items"]))
            self._max_texts = min(TEXTS_AT_ONCE, int(limits["max_texts"]))
        except (KeyError, TypeError, AttributeError) as error:
            await self._close()
            raise ServerError(f"{self.url} is no Perception Encoder Server: /info has no {error}.") from None
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._close()

    async def embed(
        self, contents: Sequence[Embeddable], started: _Started = lambda: None
    ) -> list[Embedding | ItemError]:
        """Embed contents, in order. Calls may overlap, and wait for each other when the server is busy.

        Args:
            started: called when the first request is about to be sent.

        Returns:
            For each one its embedding, float32 [D] of unit length, or why it has none.

        Raises:
            ServerError: the server was gone for too long, refuses the API key, or serves another space now.
        """
        found: list[Embedding | ItemError] = []
        for kind, group in groupby(contents, type):
            items = list(group)
            if kind is Frames:
                found += [await self._frames(item, started) for item in items if isinstance(item, Frames)]
            elif kind is str:
                texts = [item for item in items if isinstance(item, str)]
                for start in range(0, len(texts), self._max_texts):
                    found += await self._texts(texts[start : start + self._max_texts], started)
            else:
                images = [item for item in items if isinstance(item, bytes)]
                for part in _divided(images, self._max_images):
                    found += await self._images(part, started)
        return found

    async def _frames(self, frames: Frames, started: _Started) -> Embedding | ItemError:
        """The mean of the frames' unit embeddings, normalised."""
        embeddings = []
        for number, found in enumerate(await self.embed(frames.files, started)):
            if isinstance(found, ItemError):
                return ItemError(f"Frame {number}: {found}")
            embeddings.append(found)
        if not embeddings:
            return ItemError("There are no frames.")
        mean = np.mean(embeddings, axis=0, dtype=np.float64)
        return np.asarray(mean / np.linalg.norm(mean), np.float32)

    async def _images(self, images: Sequence[bytes], started: _Started) -> list[Embedding | ItemError]:
        """The embeddings of images that fit into one request. A bad one is left out, and the others are sent again."""
        if len(images) == 1:
            body, kind = images[0], "image/*"
            if not body:
                return [ItemError("The file is empty.")]
            if len(body) > self.max_bytes:
                return [too_long(len(body), self.max_bytes)]
        else:
            body, kind = _form(images)
        path = f"{_IMAGE_PATH}?{_VARIANT}={self._variant}"
        return await self._embedded(images, path, body, kind, started, self._images)

    async def _texts(self, texts: Sequence[str], started: _Started) -> list[Embedding | ItemError]:
        body = json.dumps({"text": list(texts), _VARIANT: self._variant}).encode()
        return await self._embedded(texts, _TEXT_PATH, body, "application/json", started, self._texts)

    async def _embedded(
        self,
        items: Sequence[Any],
        path: str,
        body: bytes,
        kind: str,
        started: _Started,
        again: Callable[[Sequence[Any], _Started], Any],
    ) -> list[Embedding | ItemError]:
        """Send one request. If it is refused as a whole, embed its parts by `again`, down to the item at fault."""
        try:
            return list(self._array(await self._post(path, body, kind, started), len(items)))
        except _Refused as refused:
            if len(items) == 1:
                return [ItemError(refused.message)]
            at = refused.index
            if at is not None and 0 <= at < len(items):
                before = await again(items[:at], None) if at else []
                after = await again(items[at + 1 :], None) if at + 1 < len(items) else []
                return [*before, ItemError(refused.message), *after]
        half = len(items) // 2
        return [*await again(items[:half], None), *await again(items[half:], None)]

    def _array(self, response: httpx2.Response, count: int) -> Embedding:
        space = response.headers.get("X-Embedding-Space")
        if space != self.space.name:
            raise SpaceChanged(
                f"The run began with embeddings of {self.space.name}, and {self.url} now answers with those of "
                f"{space}: they cannot be compared. Finished rows are kept."
            )
        try:
            array = np.load(io.BytesIO(response.content), allow_pickle=False)
        except (ValueError, EOFError):
            raise ServerError(f"{self.url} answered with something other than an array.") from None
        if array.shape != (count, self.space.dimension):
            raise ServerError(f"{self.url} answered {count} items of {self.space.name} with an array {array.shape}.")
        return np.asarray(array, np.float32)

    async def _post(self, path: str, body: bytes, kind: str, started: _Started) -> httpx2.Response:
        """Send a request until it is answered.

        Raises:
            _Refused: the request is at fault.
            ServerError: the server is.
        """
        begun = time.monotonic()
        attempt = 0
        while True:
            attempt += 1
            await self.limit.acquire(again=attempt > 1 or started is None)
            if started is not None:
                started()
            sent = time.monotonic()
            client = self._idle.pop() if self._idle else self._new_client()
            response, trouble = None, ""
            try:
                response = await client.post(self.url + path, content=body, headers={"Content-Type": kind})
                if response.is_success:
                    self.limit.succeeded(time.monotonic() - sent)
                elif response.status_code in (429, 504):
                    self.limit.refused(sent)
            except httpx2.TransportError as error:
                trouble = f"no answer ({type(error).__name__}{f': {error}' if str(error) else ''})"
            finally:
                # Whoever waits before another attempt has no place: others show whether the server answers at all.
                self._idle.append(client)
                self.limit.release()
            now = time.monotonic()
            status = 0 if response is None else response.status_code
            if response is not None and status not in (*_BUSY, *_FAULTS):
                if response.is_success or status in _ABOUT_ITEMS:
                    self._heard(now)
                if response.is_success:
                    return response
                raise self._refusal(response)
            self.sent_again += 1
            if response is not None:
                trouble = f"status {status}: {_message(response)[0]}"
            if status not in _BUSY and attempt >= _ATTEMPTS and self._last_success > begun:
                raise _Refused(f"The server failed {attempt} times: {trouble}", None)
            if now - max(self._last_success, begun) > self._give_up_seconds:
                raise ServerError(
                    f"{self.url} gave no embedding for {self._give_up_seconds:g} s, at last {trouble}. Finished rows "
                    "are kept: run the same command again to continue."
                )
            if status != 429:
                self._missed(trouble)
            asked = retry_after.seconds(response.headers.get("Retry-After")) if response is not None else None
            await asyncio.sleep(_delay(attempt, asked))

    def _refusal(self, response: httpx2.Response) -> Exception:
        message, index = _message(response)
        status = response.status_code
        if status in (401, 403):
            return ServerError(f"{self.url} refuses the API key ({message}). Give one by --api-key or PE_API_KEY.")
        if status == 404 or response.is_redirect:
            return ServerError(f"{self.url} answers with {status}: {response.headers.get('Location') or message}")
        return _Refused(message, index)

    def _heard(self, now: float) -> None:
        self._last_success = now
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

    async def _close(self) -> None:
        for client in self._all:
            await client.aclose()

    async def _info(self) -> Any:
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


def _divided(images: Sequence[bytes], most: int) -> list[list[bytes]]:
    """Divide images into requests, by number and by bytes. An empty or a large one gets a request of its own."""
    parts: list[list[bytes]] = []
    size = BYTES_AT_ONCE + 1
    for image in images:
        alone = not image or len(image) > BYTES_AT_ONCE
        if alone or len(parts[-1] if parts else ()) >= most or size + len(image) > BYTES_AT_ONCE:
            parts.append([])
            size = 0
        parts[-1].append(image)
        size += BYTES_AT_ONCE + 1 if alone else len(image)
    return parts


def _form(images: Sequence[bytes]) -> tuple[bytes, str]:
    """The body of a form with image files, and its media type.

    httpx's own encoder takes twice as long, and writes four pieces to the socket for each image.
    """
    boundary = secrets.token_hex(16)
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="i"\r\n\r\n'.encode()
    pieces = [piece for image in images for piece in (head, image, b"\r\n")]
    return b"".join([*pieces, f"--{boundary}--\r\n".encode()]), f"multipart/form-data; boundary={boundary}"


def _message(response: httpx2.Response) -> tuple[str, int | None]:
    """The message of an error, and the index of the item that it is about."""
    try:
        body = response.json()
        message, index = body.get("message") or body["detail"], body.get("index")
    except (ValueError, KeyError, AttributeError):
        return response.text[:200] or response.reason_phrase, None
    return message if isinstance(message, str) else json.dumps(message)[:500], index if isinstance(index, int) else None


def _delay(attempt: int, asked: float | None) -> float:
    """Seconds until the next attempt: what the server asks for, and more the more attempts failed; with some chance, so
    that requests that were refused together do not come together again."""
    backoff = min(_MOST_BACKOFF_SECONDS, _BACKOFF_SECONDS * 2.0 ** (attempt - 1))
    if asked is not None:
        return asked + random.uniform(0, backoff / 2)
    return backoff * random.uniform(0.5, 1)
