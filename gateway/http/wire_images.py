"""From images in JSON to image sources."""

from collections.abc import Sequence

from gateway.http.long_strings import LongStrings
from gateway.http.roboflow_wire import ImageFields
from gateway.images.sources import ImageSource, declared, item_indices, undeclared


def source(image: ImageFields | str, strings: LongStrings, index: int | None = None) -> ImageSource:
    """One image.

    Args:
        strings: of the document.
        index: its place in a list, for errors.
    """
    if isinstance(image, str):
        return undeclared(strings.payload(image), index)
    return declared(image.type, None if image.value is None else strings.payload(image.value), index)


def sources(images: Sequence[ImageFields | str], strings: LongStrings) -> list[ImageSource]:
    """The images of a list."""
    return [source(image, strings, index) for image, index in zip(images, item_indices(len(images)), strict=True)]
