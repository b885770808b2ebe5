"""From pictures and texts to embeddings by one gateway: several in a request, and down to the item at fault."""

import io
import json
import secrets
from collections.abc import Callable, Sequence
from itertools import groupby
from types import TracebackType
from typing import Any, Final, Self

import httpx2
import numpy as np
from numpy.typing import NDArray

from deploy.bulk.errors import ItemError, ServerError, SpaceChanged, too_long
from deploy.bulk.retrying_client import Refused, RetryingClient, Started, already_started
from deploy.bulk.rows import EmbeddingSpace
from deploy.bulk.sources.item import Embeddable, Frames

Embedding = NDArray[np.float32]

# In one request. More would save little, and one bad image means that all others of its request are sent again.
IMAGES_AT_ONCE: Final = 16
TEXTS_AT_ONCE: Final = 64
BYTES_AT_ONCE: Final = 4 * 2**20
_IMAGE_PATH: Final = "/perception_encoder/embed_image"
_TEXT_PATH: Final = "/perception_encoder/embed_text"
_VARIANT: Final = "perception_encoder_version_id"


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
        client: sends the requests.
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
        self.client = RetryingClient(url, api_key, give_up_seconds, say)
        self._variant = variant
        self._max_images = IMAGES_AT_ONCE
        self._max_texts = TEXTS_AT_ONCE

    async def __aenter__(self) -> Self:
        """Ask the server what it serves.

        Raises:
            ServerError: there is no such server, or it does not serve the variant.
        """
        try:
            info = await self.client.info()
            models: dict[str, dict[str, Any]] = info["models"]
            limits = info["limits"]
            if self._variant is None and len(models) == 1:
                (self._variant,) = models
            if self._variant not in models:
                served = ", ".join(sorted(models)) or "none yet"
                if self._variant:
                    raise ServerError(f"{self.client.url} does not serve {self._variant}. Served: {served}.")
                raise ServerError(
                    f"{self.client.url} serves several variants or none. Name one with --variant. Served: {served}."
                )
            chosen = models[self._variant]
            self.space = EmbeddingSpace(chosen["embedding_space"], chosen["embed_dim"])
            height, width = chosen["image_size"]
            self.image_size = (int(height), int(width))
            self.max_bytes = int(limits["max_body_bytes"])
            self._max_images = min(IMAGES_AT_ONCE, int(limits["max_items"]))
            self._max_texts = min(TEXTS_AT_ONCE, int(limits["max_texts"]))
        except (KeyError, TypeError, AttributeError) as error:
            await self.client.close()
            raise ServerError(f"{self.client.url} is no Perception Encoder Server: /info has no {error}.") from None
        except BaseException:
            await self.client.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.client.close()

    async def embed(
        self, contents: Sequence[Embeddable], started: Started = lambda: None
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

    async def _frames(self, frames: Frames, started: Started) -> Embedding | ItemError:
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

    async def _images(self, images: Sequence[bytes], started: Started) -> list[Embedding | ItemError]:
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

    async def _texts(self, texts: Sequence[str], started: Started) -> list[Embedding | ItemError]:
        body = json.dumps({"text": list(texts), _VARIANT: self._variant}).encode()
        return await self._embedded(texts, _TEXT_PATH, body, "application/json", started, self._texts)

    async def _embedded(
        self,
        items: Sequence[Any],
        path: str,
        body: bytes,
        kind: str,
        started: Started,
        embed_part: Callable[[Sequence[Any], Started], Any],
    ) -> list[Embedding | ItemError]:
        """Send one request. If it is refused as a whole, embed its parts by `embed_part`, down to the item at fault."""
        try:
            return list(self._array(await self.client.post(path, body, kind, started), len(items)))
        except Refused as refused:
            if len(items) == 1:
                return [ItemError(refused.message)]
            at = refused.index
            if at is not None and 0 <= at < len(items):
                before = await embed_part(items[:at], already_started) if at else []
                after = await embed_part(items[at + 1 :], already_started) if at + 1 < len(items) else []
                return [*before, ItemError(refused.message), *after]
        half = len(items) // 2
        return [*await embed_part(items[:half], already_started), *await embed_part(items[half:], already_started)]

    def _array(self, response: httpx2.Response, count: int) -> Embedding:
        """The embeddings of a response, float32 [count, D]. Raises ServerError or `SpaceChanged`."""
        space = response.headers.get("X-Embedding-Space")
        if space != self.space.name:
            raise SpaceChanged(
                f"The run began with embeddings of {self.space.name}, and {self.client.url} now answers with those of "
                f"{space}: they cannot be compared. Finished rows are kept."
            )
        try:
            array = np.load(io.BytesIO(response.content), allow_pickle=False)
        except (ValueError, EOFError):
            raise ServerError(f"{self.client.url} answered with something other than an array.") from None
        if array.shape != (count, self.space.dimension):
            raise ServerError(
                f"{self.client.url} answered {count} items of {self.space.name} with an array {array.shape}."
            )
        return np.asarray(array, np.float32)


def _divided(images: Sequence[bytes], most: int) -> list[list[bytes]]:
    """Divide images into requests, by number and by bytes. An empty or a large one gets a request of its own."""
    parts: list[list[bytes]] = []
    size = BYTES_AT_ONCE + 1  # so that the first image begins a part
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
