"""Read a video's frames as Meta's reference does, as image files of the size that the model reads.

The reference averages the embeddings of single frames: `encode_video` in core/vision_encoder/pe.py of
https://github.com/facebookresearch/perception_models. With `normalize=True`, as its retrieval benchmark calls it, each
frame's embedding has unit length before the mean. That benchmark takes 8 frames, from the first to the last, at equal
distances in their number (apps/pe/clip_benchmark/datasets/video_retrieval_dataset.py).

A frame is resized here, by the reference's own filter, because a frame of 1920x1080 has 20 times the bytes of what the
largest models read. The files are PPM: lossless, nothing to compress, and every gateway reads them.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import BinaryIO, Final, cast

import av
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import SideData, Type
from av.stream import Discard, Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image

from deploy.bulk.errors import ItemError
from deploy.bulk.sources.item import Frames

# FFmpeg also reads playlists, which name other files and URLs. These containers name nothing but themselves.
_CONTAINERS: Final = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,asf,flv,ogg,mxf"
# The largest picture of H.265's highest level. A damaged header may claim any size.
_MAX_PIXELS: Final = 8192 * 4352
_NOTHING: Final = (0, None)


def read_frames(file: BinaryIO, count: int, image_size: tuple[int, int]) -> Frames:
    """Read frames of a video: the first, the last, and others between them at equal distances in their number.

    A frame of a video that has fewer than `count` is taken several times. Of one frame, the middle one is taken.

    Args:
        file: a video, which can be searched.
        count: how many frames, at least 1.
        image_size: H, W of the model.

    Returns:
        `count` PPM files of [H, W], upright.

    Raises:
        ItemError: the file has no video, is damaged, ends early, or is too large.
    """
    with _errors(), _open(file) as container:
        stream = _video_stream(container)
        index = _read_index(container, stream)
        decoder = _Decoder(container, stream, index)
        try:
            return _sample(decoder, index.shown, count, image_size)
        except ItemError:
            if len(index.shown) == 1:
                raise
        # A recording may have been stopped within its last frame.
        return _sample(decoder, index.shown[:-1], count, image_size)


@contextmanager
def _errors() -> Iterator[None]:
    """Raise what FFmpeg and PyAV raise as `ItemError`."""
    try:
        yield
    except av.FFmpegError as error:
        raise ItemError(f"The file is damaged, or no video that can be read ({error.strerror}).") from None
    except (LookupError, OverflowError, ValueError) as error:  # what PyAV does not expect in a damaged file
        raise ItemError(f"The video is damaged ({error}).") from None
    except OSError as error:
        raise ItemError(f"The file cannot be read: {error.strerror}.") from None
    except MemoryError:
        raise ItemError("The video does not fit into memory.") from None


def _open(file: BinaryIO) -> InputContainer:
    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "none", "max_pixels": str(_MAX_PIXELS)}
    return av.open(file, "r", options=options, metadata_errors="replace")


def _video_stream(container: InputContainer) -> VideoStream:
    """Choose the video of a file, let FFmpeg skip the other streams, and prepare the decoder."""
    # A song's cover is a stream of its own, too.
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:
        raise ItemError("The file has no video.")
    stream = streams[0]
    if stream.codec_context is None:
        raise ItemError("The video's codec is not known.")
    for other in container.streams:
        if other is not stream:
            other.discard = Discard.all
    if not 0 < stream.width * stream.height <= _MAX_PIXELS:  # FFmpeg may know no size where it exceeds the limit
        size = f"is {stream.width}x{stream.height}" if stream.width else "has no size"
        raise ItemError(f"The video {size}, or its pictures are damaged. At most {_MAX_PIXELS} pixels are read.")
    stream.codec_context.options = {"max_pixels": str(_MAX_PIXELS)}
    stream.codec_context.thread_count = 1  # several videos are read at a time
    return stream


@dataclass(frozen=True, slots=True)
class _Index:
    """The frames of a video, without their pixels.

    Args:
        shown: timestamps of the frames, in the order in which they are shown. Their numbers, if some have no timestamp.
        keyframes: presentation and decoding timestamps of the frames where decoding can start, in order. Empty if it
            has to start at the beginning.
        start: decoding timestamp of the beginning.
    """

    shown: Sequence[int]
    keyframes: Sequence[tuple[int, int]]
    start: int


def _read_index(container: InputContainer, stream: VideoStream) -> _Index:
    """Read the file once without decoding it. Only this tells how many frames it really has, and when."""
    packets = 0
    shown: list[int | None] = []
    decoded: list[int] = []
    keyframes: list[tuple[int, int]] = []
    for packet in container.demux(stream):
        if not packet.size:
            continue
        if packet.is_corrupt and container.format.name != "mpegts":  # which says so of the last before any gap
            raise ItemError(f"The video ends early, or is damaged, at frame {packets}.")
        packets += 1
        if packet.dts is not None:
            decoded.append(packet.dts)
        if not packet.is_discard:  # an edit list cuts the frame away
            shown.append(packet.pts)
        if packet.is_keyframe and packet.pts is not None:
            keyframes.append((packet.pts, packet.pts if packet.dts is None else packet.dts))
    if not shown:
        raise ItemError("The video has no frames.")
    # The header of an MP4 counts frames, too, that its edit list cuts away. Other headers say nothing, which is 0.
    expected = len(stream.index_entries) if "mp4" in container.format.name else stream.frames
    if packets < expected:
        raise ItemError(f"The video ends early: it has {packets} of {expected} frames.")
    times = [time for time in shown if time is not None]
    start = min(decoded[:1] + times[:1], default=0)
    if len(times) < len(shown) or decoded != sorted(decoded):  # old AVI; recordings that were joined
        return _Index(range(len(shown)), [], start)
    return _Index(sorted(set(times)), sorted(keyframes), start)


class _Decoder:
    """Decodes the frames that are shown at given times, each from the last keyframe before it."""

    def __init__(self, container: InputContainer, stream: VideoStream, index: _Index) -> None:
        self._container, self._stream, self._index = container, stream, index
        self._frames: Iterator[tuple[int, VideoFrame]] = iter(())
        self._wanted = 0

    def decode(self, times: Sequence[int]) -> Iterator[VideoFrame]:
        """Decode the frames at these times, which ascend.

        Raises:
            ItemError: one of them cannot be decoded.
        """
        now, frame = _NOTHING
        for self._wanted in times:
            last = bisect_right(self._index.keyframes, (self._wanted, inf)) - 1
            if frame is None or (last >= 0 and self._index.keyframes[last][0] > now):
                now, frame = self._seek(last)
            while frame is not None and now < self._wanted:
                now, frame = next(self._frames, _NOTHING)
            if frame is None or frame.is_corrupt:
                raise ItemError("The video is damaged: a frame cannot be decoded.")
            yield frame

    def _seek(self, last: int) -> tuple[int, VideoFrame | None]:
        """Decode this keyframe, or one before; the first frame if it is -1. Returns its time, too."""
        # Some containers are searched by decoding timestamps: there, the other one may lead behind the keyframe.
        for position in self._index.keyframes[last] if last >= 0 else ():
            now, frame = self._restart(position)
            if frame is not None and now <= self._index.keyframes[last][0]:
                return now, frame
        return self._restart(self._index.start)

    def _restart(self, position: int) -> tuple[int, VideoFrame | None]:
        self._container.seek(position, stream=self._stream)
        frames = self._decode_on()
        timed = ((frame.pts, frame) for frame in frames if frame.pts is not None)
        self._frames = timed if self._index.keyframes else enumerate(frames)
        return next(self._frames, _NOTHING)

    def _decode_on(self) -> Iterator[VideoFrame]:
        codec = self._stream.codec_context
        for packet in self._container.demux(self._stream):
            # A frame before the wanted one needs decoding only if others are predicted from it.
            skip = self._index.keyframes and packet.pts is not None and packet.pts < self._wanted
            codec.skip_frame = "NONREF" if skip else "DEFAULT"
            yield from packet.decode()


def _sample(decoder: _Decoder, shown: Sequence[int], count: int, image_size: tuple[int, int]) -> Frames:
    last = len(shown) - 1
    numbers = [number * last // (count - 1) for number in range(count)] if count > 1 else [len(shown) // 2]
    times = [shown[number] for number in numbers]
    unique = sorted(set(times))
    files = {time: _ppm(frame, image_size) for time, frame in zip(unique, decoder.decode(unique), strict=True)}
    return Frames([files[time] for time in times])


def _ppm(frame: VideoFrame, image_size: tuple[int, int]) -> bytes:
    """Convert a frame to RGB, turn it upright, and resize it as the reference does: squashed, bilinear, antialiased."""
    height, width = image_size
    pixels = _upright(frame, np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
    image = Image.fromarray(np.ascontiguousarray(pixels)).resize((width, height), Image.Resampling.BILINEAR)
    return b"P6 %d %d 255\n" % (width, height) + image.tobytes()


def _upright(frame: VideoFrame, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn and mirror pixels [H, W, 3] by the display matrix of the frame: a phone stores how it was held."""
    try:
        # PyAV's type is that of a mapping, which it is not.
        matrices = [side for side in cast(Iterable[SideData], frame.side_data) if side.type is Type.DISPLAYMATRIX]
    except ValueError:  # PyAV 18 has no name for the EXIF of a frame; it knows the rotation, not the mirror
        return np.rot90(pixels, round(frame.rotation / 90))
    if not matrices:
        return pixels
    # x' = a x + c y, y' = b x + d y: https://ffmpeg.org/doxygen/trunk/group__lavu__video__display.html
    a, b, _, c, d = np.frombuffer(bytes(matrices[0]), np.int32)[:5].tolist()
    if abs(b) > abs(a):  # x and y change places
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
