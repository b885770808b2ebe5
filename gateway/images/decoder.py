"""The interface between the gateway and whatever decodes images: confined processes, or in unit tests a function."""

from types import TracebackType
from typing import Final, NamedTuple, Protocol, Self

from gateway.encoder import Pixels
from gateway.images.sources import ArrayImage, Base64Image, EncodedImage

NO_MEMORY: Final = "The image does not fit into memory."
"""The cause of an `InvalidImage`."""

LoadedSource = EncodedImage | Base64Image | ArrayImage
"""An image whose bytes have arrived."""


class Decoded(NamedTuple):
    """The pixels of one image, uint8 [H, W, 3], and the seconds of each stage."""

    pixels: Pixels
    queue_seconds: float
    decode_seconds: float
    preprocess_seconds: float


class Decoder(Protocol):
    """Decodes images. An async context manager. Raises only `InvalidImage` and `ServerError`."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def decode(self, source: LoadedSource, image_size: tuple[int, int]) -> Decoded:
        """Decode an image and resize it to `image_size` (H, W)."""
