"""Ray Data with a real local Ray: the page's example, and an actor that is killed in the middle of its work."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.deploy.bulk.conftest import pe_embed
from tests.deploy.bulk.videos import drawing

pytestmark = [pytest.mark.bulk, pytest.mark.filterwarnings("ignore")]  # Ray's own: files that it leaves open

ROOT: Final = Path(__file__).parents[3]
RAY: Final[dict[str, Any]] = {"num_cpus": 4, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of 59 pictures and a file that is none."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(59):
        Image.fromarray(drawing(number, 64, 64)).save(folder / f"{number:02}.png")
    (folder / "bad.png").write_bytes(b"no picture")
    return folder


@pytest.fixture
def ray_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A folder for Ray. Its sockets lie in it, whose paths must be short."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    with tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as folder:
        yield folder


def rows(path: Path) -> dict[str, dict[str, Any]]:
    found = [row for file in sorted(path.rglob("*.parquet")) for row in pq.read_table(file).to_pylist()]
    by_id = {row["id"]: row for row in found}
    assert len(by_id) == len(found), "an item has two rows"
    return by_id


def test_all_rows_arrive_once_though_an_actor_is_killed(
    server: str, folder: Path, tmp_path: Path, ray_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    from deploy.bulk import ray_data
    from deploy.bulk.sources.folder import Folder

    started, pids = tmp_path / "started", tmp_path / "pids"
    started.mkdir()
    pids.mkdir()
    embed = ray_data.Embed

    class Slow(embed):  # type: ignore[misc, valid-type]
        """An actor that begins when both are there, says that it works, and works for a while."""

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            (started / str(os.getpid())).touch()

        def __call__(self, batch: Any) -> Any:
            end = time.monotonic() + 30
            while len(list(started.iterdir())) < 2 and time.monotonic() < end:
                time.sleep(0.05)
            (pids / str(os.getpid())).touch()
            time.sleep(0.5)
            return super().__call__(batch)

    killed: list[int] = []

    def kill() -> None:
        end = time.monotonic() + 45
        while time.monotonic() < end:
            if len(found := list(pids.iterdir())) >= 2:
                killed.append(int(found[0].name))
                os.kill(killed[0], signal.SIGKILL)
                return
            time.sleep(0.05)

    ray.init(_temp_dir=ray_folder, log_to_driver=False, **RAY)
    try:
        monkeypatch.setattr(ray_data, "Embed", Slow)
        killer = threading.Thread(target=kill)
        killer.start()
        items = ray_data.read(Folder(folder), blocks=12)
        ray_data.embed(items, server, actors=2, batch_size=8).write_parquet(str(tmp_path / "out"))
        killer.join()
    finally:
        ray.shutdown()
    assert killed, "there were never two actors at work"
    found = rows(tmp_path / "out")
    assert sorted(found) == sorted(path.name for path in folder.iterdir())
    assert found["bad.png"]["embedding"] is None
    assert found["bad.png"]["error"]
    assert pe_embed(folder, "--url", server, "--out", tmp_path / "alone.parquet").returncode == 0
    for row in pq.read_table(tmp_path / "alone.parquet").to_pylist():
        if row["embedding"] is not None:
            assert np.allclose(found[row["id"]]["embedding"], row["embedding"], atol=1e-5)
            assert found[row["id"]]["folder"] == row["folder"]


def test_the_pages_example(server: str, folder: Path, tmp_path: Path, ray_folder: str) -> None:
    page = (ROOT / "deploy/bulk/ray.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    replaced = {
        "/data/pictures": str(folder),
        "/data/embeddings": str(tmp_path / "out"),
        "http://gateway:9001": server,
        "ray.init()": f"ray.init(_temp_dir={ray_folder!r}, **{RAY!r})",
    }
    for old, new in replaced.items():
        assert old in example
        example = example.replace(old, new)
    subprocess.run([sys.executable, "-c", example], check=True, timeout=120, capture_output=True)
    assert len(rows(tmp_path / "out")) == 60
