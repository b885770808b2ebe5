"""`pe-embed` and videos, with the real server: a video's embedding has the direction of the reference's."""

import io
import tarfile
from pathlib import Path

import httpx2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.deploy.bulk.conftest import pe_embed
from tests.deploy.bulk.videos import decode, drawing, encode

pytestmark = pytest.mark.bulk

PICTURES = [drawing(number) for number in range(40)]


def encode_video(server: str, video: bytes, count: int = 8) -> NDArray[np.float32]:
    """Compute what the reference's `encode_video(normalize=True)` does, from all frames of the video as PNG files.

    core/vision_encoder/pe.py of https://github.com/facebookresearch/perception_models: the mean of the frames' unit
    embeddings, which is not normalised again.
    """
    stored = decode(video)
    embeddings = []
    for number in range(count):
        file = io.BytesIO()
        Image.fromarray(stored[int(number * (len(stored) - 1) / (count - 1))]).save(file, "PNG")
        response = httpx2.post(
            f"{server}/perception_encoder/embed_image",
            content=file.getvalue(),
            headers={"Content-Type": "image/png", "Accept": "application/x-npy"},
        )
        embeddings.append(np.load(io.BytesIO(response.content))[0])
    mean: NDArray[np.float32] = np.mean(embeddings, axis=0)
    return mean


def rows(path: Path) -> dict[str, tuple[NDArray[np.float32] | None, str | None]]:
    """The embeddings and errors in a file, by id."""
    found: dict[str, tuple[NDArray[np.float32] | None, str | None]] = {}
    for row in pq.read_table(path).to_pylist():
        embedding = None if row["embedding"] is None else np.array(row["embedding"], np.float32)
        found[row["id"]] = (embedding, row["error"])
    return found


def cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_a_folder_of_pictures_and_videos(server: str, tmp_path: Path) -> None:
    folder, out = tmp_path / "folder", tmp_path / "out.parquet"
    folder.mkdir()
    videos = {
        "a.mp4": encode(PICTURES),
        "b.webm": encode(PICTURES[5:12], "webm", "libvpx"),
        "c.MOV": encode(PICTURES[20:], "mov", rotation=(0, False, False)),
        "of one frame.mkv": encode(PICTURES[:1], "matroska"),
    }
    for name, video in videos.items():
        (folder / name).write_bytes(video)
    (folder / "turned.mp4").write_bytes(encode(PICTURES, rotation=(180, False, False)))
    (folder / "cut.mp4").write_bytes(videos["a.mp4"][:-2000])
    (folder / "empty.avi").write_bytes(b"")
    Image.fromarray(PICTURES[0]).save(folder / "picture.png")
    run = pe_embed(folder, "--url", server, "--out", out)
    assert run.returncode == 0, run.stderr
    found = rows(out)
    assert list(found) == sorted([*videos, "turned.mp4", "cut.mp4", "empty.avi", "picture.png"])
    for name, video in videos.items():
        embedding, error = found[name]
        assert error is None
        assert embedding is not None
        assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-5)
        assert cosine(embedding, encode_video(server, video)) > 0.99999
    turned = found["turned.mp4"][0]
    assert turned is not None
    assert cosine(turned, encode_video(server, videos["a.mp4"])) < 0.999
    for name in ("cut.mp4", "empty.avi"):
        embedding, error = found[name]
        assert embedding is None
        assert error is not None
        assert "damaged" in error


def test_the_number_of_frames_is_part_of_a_run(server: str, tmp_path: Path) -> None:
    video, out = tmp_path / "video.mp4", tmp_path / "out.parquet"
    video.write_bytes(encode(PICTURES))
    for count in ("3", "5"):
        run = pe_embed(tmp_path, "--url", server, "--out", out, "--frames", count)
        if count == "3":
            assert run.returncode == 0, run.stderr
            embedding, _ = rows(out)["video.mp4"]
            assert embedding is not None
            assert cosine(embedding, encode_video(server, video.read_bytes(), 3)) > 0.99999
    assert run.returncode == 2
    assert "3 frames of each video" in run.stderr
    for count in ("0", "-1", "few"):
        assert pe_embed(tmp_path, "--url", server, "--out", out, "--frames", count).returncode == 2


def test_videos_in_tables_and_tar_files(server: str, tmp_path: Path) -> None:
    video = encode(PICTURES, "matroska")
    table = tmp_path / "table.parquet"
    pq.write_table(pa.table({"name": ["a"], "data": [video]}), table)
    tar = tmp_path / "shard.tar"
    with tarfile.open(tar, "w") as file:
        member = tarfile.TarInfo("b.mkv")
        member.size = len(video)
        file.addfile(member, io.BytesIO(video))
    wanted = encode_video(server, video)
    for source, options, name in (
        (table, ("--column", "data", "--id-column", "name"), "a"),
        (tar, (), "shard.tar/b.mkv"),
    ):
        out = tmp_path / f"{source.stem}.out.parquet"
        run = pe_embed(source, *options, "--url", server, "--out", out)
        assert run.returncode == 0, run.stderr
        embedding, error = rows(out)[name]
        assert error is None
        assert embedding is not None
        assert cosine(embedding, wanted) > 0.99999
