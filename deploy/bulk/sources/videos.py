"""Tell videos from pictures, and take frames of videos. FFmpeg takes a second to load, so only a video loads it."""

from typing import Final

from deploy.bulk.sources.item import Content, Embeddable, Video

FRAMES: Final = 8
"""Frames of a video, unless told otherwise, as in the reference."""

SUFFIXES: Final = frozenset(
    (".3g2", ".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf",
     ".ogv", ".webm", ".wmv")
)  # fmt: skip
"""What names of videos end with, in lower case. Not `.ts`, which names far more programs than videos."""

HEAD: Final = 400
"""Bytes at the beginning of a file that `is_video` looks at."""

_MAGIC: Final = (
    b"\x1aE\xdf\xa3",  # Matroska, WebM
    b"\0\0\x01\xba",  # MPEG program stream
    b"FLV\x01",
    b"OggS",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF, WMV
    b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02\x01\x01\x02",  # MXF
)
_IMAGE_BRANDS: Final = frozenset(
    (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
)


def is_video(head: bytes) -> bool:
    """Tell a video from an image by the beginning of a file.

    GIF and WebP are images, animated or not: the server embeds their first frame.
    """
    if head[4:8] == b"ftyp":
        return head[8:12] not in _IMAGE_BRANDS
    if head[:4] == b"RIFF":
        return head[8:12] == b"AVI "
    is_transport_stream = any(head[at : at + 2 * step : step] == b"GG" for at, step in ((0, 188), (4, 192)))
    return head.startswith(_MAGIC) or head[4:8] in (b"moov", b"mdat", b"wide") or is_transport_stream


def embeddable(content: Content, frames: int, image_size: tuple[int, int]) -> Embeddable:
    """Return a picture or a text as it is, and in place of a video some of its frames.

    Args:
        frames: how many.
        image_size: H, W of the model.

    Raises:
        ItemError: as for `read_frames`.
    """
    if not isinstance(content, Video):
        return content
    from deploy.bulk.video import read_frames

    with content.file as file:
        return read_frames(file, frames, image_size)
