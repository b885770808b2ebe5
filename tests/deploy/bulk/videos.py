"""Videos for tests: drawn, and encoded by PyAV."""

import io
import tempfile
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


def drawing(number: int, width: int = 160, height: int = 96) -> Pixels:
    """Draw a picture that differs from all others, uint8 [H, W, 3]: blots whose colours and places follow a number."""
    blots = np.random.default_rng(number).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(blots).resize((width, height), Image.Resampling.BICUBIC))


def encode(
    pictures: Sequence[Pixels],
    container: str = "mp4",
    codec: str = "libx264",
    *,
    pixel_format: str = "yuv420p",
    gop: int = 12,
    times: Sequence[int] | None = None,
    options: Mapping[str, str] | None = None,
    mux: Mapping[str, str] | None = None,
    rotation: tuple[float, bool, bool] = (0, False, False),
) -> bytes:
    """Encode pictures of one size.

    Args:
        gop: the distance of keyframes.
        times: of the pictures, in 1/25 s. By default 0, 1, 2, ...
        options: of the encoder.
        mux: options of the container.
        rotation: degrees counter-clockwise, then whether to mirror left and right, and top and bottom, for the player.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "video")  # `faststart` opens it again
        with av.open(path, "w", format=container, options=dict(mux or {})) as output:
            stream: Any = output.add_stream(codec, rate=25)
            stream.height, stream.width = pictures[0].shape[:2] if pictures else (96, 160)
            stream.pix_fmt = pixel_format
            stream.options = dict(options or {})
            stream.codec_context.gop_size = gop
            if any(rotation):
                stream.set_display_rotation(rotation[0], hflip=rotation[1], vflip=rotation[2])
            output.start_encoding()
            for time, picture in zip(times or range(len(pictures)), pictures, strict=True):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = time, Fraction(1, 25)
                output.mux(stream.encode(frame))
            output.mux(stream.encode())
        return path.read_bytes()


def decode(video: bytes) -> list[Pixels]:
    """Decode all whole frames of a video, one after the other, as they are stored: uint8 [H, W, 3]."""
    with av.open(io.BytesIO(video), "r") as container:
        whole = (frame for frame in container.decode(video=0) if not frame.is_corrupt)
        return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in whole]
