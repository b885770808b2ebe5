"""Frames of videos, compared with those that a decoder gives when it decodes all of them."""

import io
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from deploy.bulk.errors import ItemError
from deploy.bulk.sources.videos import HEAD, SUFFIXES, is_video
from deploy.bulk.video import read_frames
from tests.deploy.bulk.videos import Pixels, decode, drawing, encode

pytestmark = pytest.mark.bulk

SIZE = (48, 80)
PICTURES = [drawing(number) for number in range(50)]
DAMAGED = r"damaged|ends early|no video"


def frames(video: bytes, count: int = 8) -> list[Pixels]:
    """The frames that `read_frames` gives, as pixels."""
    return [np.asarray(Image.open(io.BytesIO(file))) for file in read_frames(io.BytesIO(video), count, SIZE).files]


def reference(video: bytes, count: int = 8) -> list[Pixels]:
    """Decode all frames, and choose and resize as Meta's retrieval benchmark does.

    core/vision_encoder/transforms.py and apps/pe/clip_benchmark/datasets/video_retrieval_dataset.py of
    https://github.com/facebookresearch/perception_models.
    """
    stored = decode(video)
    if count == 1:
        chosen = [len(stored) // 2]
    else:
        chosen = [int(number * (len(stored) - 1) / (count - 1)) for number in range(count)]
    return [resized(stored[number]) for number in chosen]


def resized(pixels: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize((SIZE[1], SIZE[0]), Image.Resampling.BILINEAR))


def same(some: Sequence[Pixels], others: Sequence[Pixels]) -> bool:
    return len(some) == len(others) and all(map(np.array_equal, some, others))


@pytest.mark.parametrize(
    ("container", "codec", "pixel_format", "options"),
    [
        ("mp4", "libx264", "yuv420p", {}),
        ("mp4", "libx264", "yuv420p", {"x264-params": "open-gop=1:bframes=3"}),
        ("mp4", "libx264", "yuv420p", {"bf": "0"}),
        ("mp4", "libx265", "yuv420p10le", {"x265-params": "log-level=none:bframes=4:open-gop=1"}),
        ("mov", "prores", "yuv422p10le", {}),
        ("mov", "png", "rgba", {}),
        ("matroska", "libx264", "yuv444p", {}),
        ("matroska", "ffv1", "gray16le", {}),
        ("webm", "libvpx", "yuv420p", {"auto-alt-ref": "1", "lag-in-frames": "16"}),
        ("webm", "libvpx-vp9", "yuva420p", {"auto-alt-ref": "0", "cpu-used": "8", "deadline": "realtime"}),
        ("avi", "mpeg4", "yuv420p", {"bf": "2"}),  # its packets have no timestamps
        ("avi", "mjpeg", "yuvj422p", {}),
        ("avi", "rawvideo", "bgr24", {}),
        ("mpegts", "mpeg2video", "yuv420p", {"bf": "2"}),
        ("mpegts", "libx264", "yuv420p", {}),
        ("mpeg", "mpeg1video", "yuv420p", {"bf": "2"}),
        ("flv", "libx264", "yuv420p", {}),
        ("asf", "wmv2", "yuv420p", {}),
        ("mxf", "mpeg2video", "yuv422p", {}),
    ],
)
def test_takes_the_frames_of_the_reference(
    container: str, codec: str, pixel_format: str, options: dict[str, str]
) -> None:
    video = encode(PICTURES, container, codec, pixel_format=pixel_format, options=options)
    assert is_video(video[:HEAD])
    assert len(decode(video)) == 50
    assert same(frames(video), reference(video))


@pytest.mark.parametrize("count", [1, 2, 7, 50, 120])
@pytest.mark.parametrize("length", [1, 2, 9, 50])
def test_takes_as_many_frames_as_asked_for(length: int, count: int) -> None:
    video = encode(PICTURES[:length])
    assert same(frames(video, count), reference(video, count))


@pytest.mark.parametrize("gop", [1, 5, 1000])
def test_finds_frames_between_any_keyframes(gop: int) -> None:
    video = encode(PICTURES, gop=gop)
    assert same(frames(video, 5), reference(video, 5))


def test_counts_frames_and_not_seconds_at_a_variable_rate() -> None:
    video = encode(PICTURES, times=[number**2 for number in range(50)])
    assert same(frames(video), reference(video))


def test_does_not_decode_all_of_a_long_video(monkeypatch: pytest.MonkeyPatch) -> None:
    video = encode([PICTURES[number % 50] for number in range(500)], gop=10, options={"bf": "0", "preset": "ultrafast"})
    wanted = reference(video)
    decoded = 0
    to_decode = av.Packet.decode

    class Counting:
        """A container whose decoded packets are counted."""

        def __init__(self, container: Any) -> None:
            self._container = container

        def __getattr__(self, name: str) -> Any:
            return getattr(self._container, name)

        def __enter__(self) -> "Counting":
            return self

        def __exit__(self, *_: object) -> None:
            self._container.close()

        def demux(self, *streams: Any) -> Any:
            for packet in self._container.demux(*streams):
                yield CountedPacket(packet)

    class CountedPacket:
        def __init__(self, packet: Any) -> None:
            self._packet = packet

        def __getattr__(self, name: str) -> Any:
            return getattr(self._packet, name)

        def decode(self) -> Any:
            nonlocal decoded
            decoded += 1
            return to_decode(self._packet)

    to_open = av.open
    monkeypatch.setattr(av, "open", lambda *arguments, **options: Counting(to_open(*arguments, **options)))
    assert same(frames(video), wanted)
    assert 8 <= decoded <= 8 * 12


def test_reads_a_recording_that_was_joined_of_two() -> None:
    video = b"".join(encode(part, "mpegts", "mpeg2video") for part in (PICTURES[:20], PICTURES[20:]))
    assert len(decode(video)) == 50
    assert same(frames(video), reference(video))


def test_leaves_out_frames_that_an_edit_list_cuts_away() -> None:
    video = encode(PICTURES, options={"bf": "0"}, mux={"movflags": "+faststart"})
    at = video.index(b"elst")
    version, entries, duration, media_time = struct.unpack(">IIIi", video[at + 4 : at + 20])
    assert (version, entries, media_time) == (0, 1, 0)
    ticks = 10 * 512  # ten frames of 1/25 s, in a time scale of 12,800
    cut = video[: at + 12] + struct.pack(">Ii", duration, ticks) + video[at + 20 :]
    assert len(decode(cut)) == 40
    assert same(frames(cut), reference(cut))


@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
@pytest.mark.parametrize(("left_right", "top_bottom"), [(False, False), (True, False), (False, True)])
def test_turns_frames_as_a_player_does(degrees: int, left_right: bool, top_bottom: bool) -> None:
    # Lossless 4:4:4: only the conversion of colours changes the pixels.
    video = encode(
        PICTURES[:3], pixel_format="yuv444p", options={"qp": "0"}, rotation=(degrees, left_right, top_bottom)
    )
    turned = np.rot90(decode(video)[0], degrees // 90)
    if left_right:
        turned = turned[:, ::-1]
    if top_bottom:
        turned = turned[::-1]
    assert np.array_equal(frames(video)[0], resized(np.ascontiguousarray(turned)))


def test_turns_frames_that_have_metadata_unknown_to_pyav() -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    with av.open(file, "w", format="mov") as output:
        stream = output.add_stream("mjpeg", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuvj420p"
        stream.set_display_rotation(90)
        for number in range(3):
            picture = io.BytesIO()
            Image.fromarray(PICTURES[number]).save(picture, "JPEG", exif=exif)
            packet = av.Packet(picture.getvalue())
            packet.stream, packet.pts, packet.dts = stream, number, number
            packet.is_keyframe = True
            output.mux(packet)
    video = file.getvalue()
    with av.open(io.BytesIO(video), "r") as container, pytest.raises(ValueError, match="is not a valid"):
        list(next(container.decode(video=0)).side_data)
    assert np.array_equal(frames(video)[0], resized(np.ascontiguousarray(np.rot90(decode(video)[0]))))


def test_takes_the_pixels_of_a_video_with_colours_of_its_own() -> None:
    """Limited and full range, BT.601 and BT.709: a gray and a red of known values come back."""
    picture = np.zeros((96, 160, 3), np.uint8)
    picture[:, :80] = 200
    picture[:, 80:, 0] = 220
    for container, codec, pixel_format in (
        ("mp4", "libx264", "yuv420p"),
        ("avi", "mjpeg", "yuvj420p"),
        ("avi", "ffv1", "bgr0"),
        ("matroska", "ffv1", "yuv420p16le"),
    ):
        frame = frames(encode([picture], container, codec, pixel_format=pixel_format))[0].astype(int)
        assert np.abs(frame[24, 20] - [200, 200, 200]).max() <= 4
        assert np.abs(frame[24, 60] - [220, 0, 0]).max() <= 4


def song(cover: bool) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        sound = output.add_stream("aac", rate=44_100)
        assert isinstance(sound, av.AudioStream)
        if cover:
            picture = output.add_stream("mjpeg")
            assert isinstance(picture, av.VideoStream)
            picture.width, picture.height, picture.pix_fmt = 160, 96, "yuvj420p"
            picture.disposition = Disposition.attached_pic
        for number in range(40):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 2048), np.int16), "s16", "stereo")
            frame.rate, frame.pts = 44_100, 1024 * number
            output.mux(sound.encode(frame))
        if cover:
            output.mux([*picture.encode(av.VideoFrame.from_ndarray(PICTURES[0])), *picture.encode()])
        output.mux(sound.encode())
    return file.getvalue()


@pytest.mark.parametrize("cover", [False, True])
def test_refuses_a_song(cover: bool) -> None:
    with pytest.raises(ItemError, match="The file has no video"):
        frames(song(cover))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 1000,
        b"no video",
        b"#EXTM3U\n#EXTINF:10,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",  # playlists read other files
        b"ffconcat version 1.0\nfile '/etc/hostname'\n",
        encode([]),
        encode([], "matroska"),
    ],
)
def test_refuses_what_has_no_frames(data: bytes) -> None:
    with pytest.raises(ItemError, match=DAMAGED):
        frames(data)


def test_does_not_follow_a_playlist() -> None:
    """FFmpeg reads playlists, which may name any file or URL, whatever the name of the playlist is."""
    video = encode(PICTURES[:5], "mpegts", "mpeg2video")
    with pytest.raises(ItemError, match=DAMAGED):
        frames(b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\ndata:video/mp2t," + video.hex().encode() + b"\n")


@pytest.mark.parametrize("part", [0.9, 0.5, 0.1])
@pytest.mark.parametrize(
    ("container", "codec", "mux"),
    [
        ("mp4", "libx264", {}),
        ("mp4", "libx264", {"movflags": "+faststart"}),
        ("mp4", "libx264", {"movflags": "+frag_keyframe+empty_moov"}),
        ("avi", "mpeg4", {}),
        ("flv", "libx264", {}),
    ],
)
def test_refuses_a_video_that_ends_early(container: str, codec: str, mux: dict[str, str], part: float) -> None:
    video = encode(PICTURES, container, codec, mux=mux)
    with pytest.raises(ItemError, match=DAMAGED):
        frames(video[: int(part * len(video))])


@pytest.mark.parametrize("container", ["matroska", "mpegts"])
def test_takes_what_there_is_of_a_stream_that_ends_early(container: str) -> None:
    """Such a container is written from the first byte to the last, and none says how many frames there should be."""
    video = encode(PICTURES, container, "mpeg2video", options={"bf": "0"})
    for part in (0.3, 0.5, 0.51, 0.52, 0.99):
        cut = video[: int(part * len(video))]
        assert same(frames(cut), reference(cut))


def test_refuses_damaged_frames() -> None:
    video = bytearray(encode(PICTURES, options={"bf": "0"}, mux={"movflags": "+faststart"}))
    start = video.index(b"mdat") + 4
    video[start + 2000 :: 7] = bytes(len(video[start + 2000 :: 7]))
    with pytest.raises(ItemError, match=DAMAGED):
        frames(bytes(video))


@pytest.mark.parametrize(
    ("container", "codec"), [("mp4", "libx264"), ("matroska", "libx264"), ("avi", "mpeg4"), ("flv", "libx264")]
)
def test_a_damaged_video_raises_nothing_else(container: str, codec: str) -> None:
    video = encode(PICTURES[:20], container, codec)
    random = np.random.default_rng(1)
    refused = 0
    for _ in range(60):
        damaged = np.frombuffer(video, np.uint8).copy()
        damaged[(len(video) * random.random(5) ** 2).astype(int)] = random.integers(0, 256, 5)
        try:
            frames(damaged.tobytes())
        except ItemError:
            refused += 1
    assert refused > 5


def test_refuses_huge_pictures_before_they_are_decoded() -> None:
    huge = np.zeros((4400, 8192, 3), np.uint8)
    with pytest.raises(ItemError, match=r"8192x4400.*At most 35651584"):
        frames(encode([huge], options={"preset": "ultrafast"}))
    with pytest.raises(ItemError, match="At most 35651584"):
        frames(encode([huge], "avi", "mjpeg", pixel_format="yuvj420p"))


def test_pictures_are_no_videos() -> None:
    for kind in ("GIF", "WEBP", "PNG"):
        file = io.BytesIO()
        first, *others = (Image.fromarray(picture) for picture in PICTURES[:3])
        first.save(file, kind, save_all=True, append_images=others)
        assert not is_video(file.getvalue()[:HEAD])
    for head in (b"", b"GGGG", b"\0\0\0\x18ftypheic\0\0\0\0", b"\0\0\0\x18ftypavif\0\0\0\0", b"\xff\xd8\xff\xe0"):
        assert not is_video(head)


def test_the_page_lists_the_names_of_videos() -> None:
    page = (Path(__file__).parents[3] / "deploy/bulk/video.md").read_text()
    (listed,) = re.findall(r"Names of videos end with (.*?)\. Files", page, re.DOTALL)
    assert set(re.findall(r"`(.*?)`", listed)) == SUFFIXES
