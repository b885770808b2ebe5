"""What a source consists of."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from deploy.bulk.rows import Value


@dataclass(frozen=True, slots=True)
class Video:
    """A video, of which some frames will be embedded.

    Args:
        file: open and seekable. Its reader closes it.
    """

    file: BinaryIO


@dataclass(frozen=True, slots=True)
class Frames:
    """Pictures that share one embedding: the mean of their unit embeddings, normalised.

    Args:
        files: image files, in any format that the server reads.
    """

    files: Sequence[bytes]


Content = bytes | str | Video  # what a source has: an image file, a text, or a video
Embeddable = bytes | str | Frames  # what the client embeds


@dataclass(frozen=True, slots=True)
class Item:
    """One picture, text or video.

    Args:
        id: as in `Row`.
        load: load(max_bytes) -> Content, which runs in a thread and raises `ItemError`: the file is missing, cannot be
            read, or is longer than `max_bytes`, which is the most that the server reads. A video file may be longer.
        columns: as in `Row`.
    """

    id: str
    load: Callable[[int], Content]
    columns: Mapping[str, Value] = field(default_factory=dict)


class Source(Protocol):
    """Items in an order that is the same in every run."""

    @property
    def description(self) -> str:
        """What it reads, from where: a run continues only with the same description."""

    def ids(self) -> Iterator[str]:
        """Iterate over the ids, in the order of the items, without reading contents where that is possible."""

    def __iter__(self) -> Iterator[Item]:
        """Iterate over the items. May be called several times."""
