"""From images in JSON to image sources."""

from collections.abc import Sequence

from gateway.errors import InvalidInput
from gateway.http.long_strings import LongStrings
from gateway.http.roboflow_wire import ImageFields
from gateway.images.sources import ImageSource, declared, item_indices, undeclared


async def source(image: ImageFields | str, strings: LongStrings, index: int | None = None) -> ImageSource:
    """One image.

    Args:
        strings: of the document.
        index: its place in a list, for errors.
    """
    if isinstance(image, str):
        return undeclared(await strings.payload(image), index)
    value = None if image.value is None else await strings.payload(image.value)
    return declared(image.type, value, index)


async def required_sources(images: Sequence[ImageFields] | ImageFields, strings: LongStrings) -> list[ImageSource]:
    """One image, or the images of a list.

    Raises:
        InvalidInput: the list is empty.
    """
    if isinstance(images, ImageFields):
        images = [images]
    if not images:
        raise InvalidInput("The list of images is empty.")
    return await sources(images, strings)


async def sources(images: Sequence[ImageFields | str], strings: LongStrings) -> list[ImageSource]:
    """The images of a list."""
    indices = item_indices(len(images))
    return [await source(image, strings, index) for image, index in zip(images, indices, strict=True)]
