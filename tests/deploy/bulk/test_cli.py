"""`pe-embed` as users run it, with the real server unless its answers have to be scripted."""

import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deploy.bulk.cli import main
from tests.deploy.bulk.conftest import PE_EMBED, pe_embed, picture
from tests.deploy.bulk.scripted_gateway import Answer, ScriptedGateway, embeddings, error
from tests.running import PeServe

pytestmark = pytest.mark.bulk

_LOCK = threading.Lock()
_free_at = [0.0]


def rows(path: Path) -> dict[str, dict[str, Any]]:
    found = pq.read_table(path).to_pylist()
    by_id = {row["id"]: row for row in found}
    assert len(by_id) == len(found)
    return by_id


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PE_EMBED, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for_parts(path: Path, count: int) -> None:
    end = time.monotonic() + 60
    while len(list(path.glob("part-*.parquet"))) < count:
        assert time.monotonic() < end
        time.sleep(0.01)


def slow(items: list[bytes]) -> Answer:
    """Answer requests in the order in which they come, each in 50 ms, so that 600 items take seconds."""
    with _LOCK:
        _free_at[0] = max(time.monotonic(), _free_at[0]) + 0.05
        wait = _free_at[0] - time.monotonic()
    time.sleep(max(wait, 0))
    return error(400, "no picture", items.index(b"bad")) if b"bad" in items else embeddings(len(items))


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A folder of 600 files that are no pictures, for a scripted gateway."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(600):
        (folder / f"{number:04}.jpg").write_text(f"picture {number}")
    return folder


# -- what it writes


def test_a_folder_with_bad_files(server: str, pictures: Path, tmp_path: Path) -> None:
    (pictures / "bad.jpg").write_text("no picture")
    (pictures / "notes.txt").write_text("x")
    result = pe_embed(pictures, "--out", tmp_path / "rows.parquet", "--url", server)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    assert "41 pictures of the folder" in result.stderr
    assert "Left out: 1 of the files, which are no pictures by their names. --all-files sends" in result.stderr
    assert "40 embeddings, 1 rows with an error" in result.stderr
    assert "\n  bad.jpg: Could not load input image." in result.stderr
    found = rows(tmp_path / "rows.parquet")
    assert list(found) == sorted(found)
    assert found["bad.jpg"]["embedding"] is None
    assert found["bad.jpg"]["error"].startswith("Could not load input image.")
    answer = httpx2.post(
        f"{server}/perception_encoder/embed_image",
        content=(pictures / "b/01.png").read_bytes(),
        headers={"Content-Type": "image/png"},
        trust_env=False,
    )
    np.testing.assert_allclose(found["b/01.png"]["embedding"], answer.json()["embeddings"][0], atol=1e-5)
    space = pq.read_schema(tmp_path / "rows.parquet").metadata[b"embedding_space"].decode()
    assert space == answer.headers["X-Embedding-Space"]


def test_every_kind_of_source_gives_the_same_embeddings(server: str, pictures: Path, tmp_path: Path) -> None:
    assert main([str(pictures), "--out", str(tmp_path / "folder.parquet"), "--url", server]) == 0
    folder = rows(tmp_path / "folder.parquet")
    ids = list(folder)
    (tmp_path / "list.txt").write_text("\n".join(ids))
    (tmp_path / "table.csv").write_text("name,n\n" + "".join(f"{item},{number}\n" for number, item in enumerate(ids)))
    files = [(pictures / item).read_bytes() for item in ids]
    pq.write_table(pa.table({"id": ids, "image": pa.array(files, pa.binary())}), tmp_path / "table.parquet")
    subprocess.run(["tar", "-cf", tmp_path / "all.tar", *ids], cwd=pictures, check=True)
    root = ("--root", str(pictures))
    for arguments in (
        [str(tmp_path / "list.txt"), *root],
        [str(tmp_path / "table.csv"), "--column", "name", "--columns", "n", *root],
        [str(tmp_path / "table.parquet"), "--column", "image", "--id-column", "id"],
        [str(tmp_path / "all.tar")],
    ):
        out = tmp_path / f"{Path(arguments[0]).name}.out.parquet"
        assert main([*arguments, "--out", str(out), "--url", server]) == 0
        found = rows(out)
        assert [item.removeprefix("all.tar/") for item in found] == ids
        for item, row in zip(ids, found.values(), strict=True):
            np.testing.assert_allclose(row["embedding"], folder[item]["embedding"], atol=1e-5)
    assert rows(tmp_path / "table.csv.out.parquet")[ids[7]]["n"] == 7


def test_a_list_on_the_standard_input(server: str, pictures: Path, tmp_path: Path) -> None:
    found = subprocess.run(
        f"find a b -name '*.png' | {' '.join(PE_EMBED)} - --out {tmp_path}/rows.npy --dtype float16 --url {server}",
        shell=True, cwd=pictures, check=True, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )  # fmt: skip
    assert "27 files of the standard input" in found.stderr
    assert np.load(tmp_path / "rows.npy").shape == (27, 64)
    assert np.load(tmp_path / "rows.npy").dtype == np.float16


def test_texts(server: str, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("a red circle\na blue square\n")
    assert main([str(tmp_path / "texts.txt"), "--text", "--out", str(tmp_path / "texts.parquet"), "--url", server]) == 0
    assert list(rows(tmp_path / "texts.parquet")) == ["a red circle", "a blue square"]


def test_sixteen_shards_are_the_whole(gateway: ScriptedGateway, many: Path, tmp_path: Path) -> None:
    found = []
    for number in range(1, 17):
        out = tmp_path / f"{number}.parquet"
        assert main([str(many), "--shard", f"{number}/16", "--out", str(out), "--url", gateway.url]) == 0
        found += list(rows(out))
    assert sorted(found) == [f"{number:04}.jpg" for number in range(600)]


# -- stopping and continuing


def test_a_killed_run_continues_where_it_stopped(gateway: ScriptedGateway, many: Path, tmp_path: Path) -> None:
    goes_on = threading.Event()

    def half(items: list[bytes]) -> Answer:
        """Answer as `slow`, but the second half of the pictures only after the kill."""
        if any(int(item.split()[1]) >= 300 for item in items):
            goes_on.wait(60)
        return slow(items)

    gateway.answer = half
    out = tmp_path / "rows.parquet"
    arguments = (many, "--out", out, "--url", gateway.url, "--write-every", "0.2")
    killed = start(*arguments)
    wait_for_parts(tmp_path / "rows.parquet.parts", 1)
    killed.kill()
    killed.communicate()
    goes_on.set()
    kept = [item for part in sorted(tmp_path.glob("rows.parquet.parts/part-*")) for item in rows(part)]
    assert 0 < len(kept) < 600
    gateway.requests.clear()
    again = pe_embed(*arguments)
    assert again.returncode == 0, again.stderr
    assert f"{len(kept)} of them done before" in again.stderr
    sent = [item for items in gateway.requests for item in items]
    assert len(sent) == 600 - len(kept)
    assert list(rows(out)) == [f"{number:04}.jpg" for number in range(600)]


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_keeps_its_rows(
    gateway: ScriptedGateway, many: Path, tmp_path: Path, signum: int, status: int
) -> None:
    gateway.answer = slow
    arguments = (many, "--out", tmp_path / "rows.parquet", "--url", gateway.url)
    stopped = start(*arguments)
    end = time.monotonic() + 60
    while len(gateway.requests) < 12:
        assert time.monotonic() < end
        time.sleep(0.01)
    begun = time.monotonic()
    stopped.send_signal(signum)
    output, _ = stopped.communicate(timeout=60)
    assert stopped.returncode == status, output
    assert time.monotonic() - begun < 20
    assert "Traceback" not in output
    kept = [item for part in tmp_path.glob("rows.parquet.parts/part-*") for item in rows(part)]
    assert kept  # although the next write was due after 20 s
    assert f"Stopped: {len(kept)} of 600 rows are kept. The same command continues." in output
    assert pe_embed(*arguments).returncode == 0
    assert len(rows(tmp_path / "rows.parquet")) == 600


def test_a_stopped_run_does_not_wait_for_urls(gateway: ScriptedGateway, many: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:  # takes connections, and never answers
        urls = [f"http://127.0.0.1:{silent.getsockname()[1]}/{number}.jpg" for number in range(16)]
        (tmp_path / "list.txt").write_text("\n".join([f"{number:04}.jpg" for number in range(16)] + urls))
        arguments = ("--root", many, "--out", tmp_path / "rows.parquet", "--url", gateway.url)
        stopped = start(tmp_path / "list.txt", *arguments)
        silent.accept()[0].close()
        silent.settimeout(60)
        waiting, _ = silent.accept()
        stopped.send_signal(signal.SIGTERM)
        output, _ = stopped.communicate(timeout=10)
        waiting.close()
    assert stopped.returncode == 143, output
    # Whether the pictures before the URLs have their answer by then is chance.
    assert re.search(r"Stopped: (0|16) of 32 rows are kept\.", output), output


def test_ctrl_c_before_anything_is_embedded(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "list.txt")  # reading the list waits forever
    waiting = start(tmp_path / "list.txt", "--out", tmp_path / "rows.parquet")
    with open(tmp_path / "list.txt", "wb"):  # opens when it is being read
        waiting.send_signal(signal.SIGINT)
        output, _ = waiting.communicate(timeout=30)
    assert waiting.returncode == 130
    assert output == "pe-embed: Stopped before anything was written.\n"


def test_a_server_that_is_gone_for_good(gateway: ScriptedGateway, many: Path, tmp_path: Path) -> None:
    def answer(items: list[bytes]) -> Answer:
        time.sleep(0.01)
        return embeddings(len(items)) if len(gateway.requests) < 20 else Answer(0)

    gateway.answer = answer
    arguments = (many, "--out", tmp_path / "rows.parquet", "--url", gateway.url)
    result = pe_embed(*arguments, "--give-up", "0.05")
    assert result.returncode == 1
    assert "Trying again for 3 s" in result.stderr
    assert "gave no embedding for 3 s, at last no answer (" in result.stderr
    assert "Traceback" not in result.stderr
    kept = sum(len(rows(part)) for part in tmp_path.glob("rows.parquet.parts/part-*"))
    assert kept > 100
    gateway.answer = lambda items: embeddings(len(items))
    again = pe_embed(*arguments)
    assert f"{kept} of them done before" in again.stderr
    assert len(rows(tmp_path / "rows.parquet")) == 600


def test_a_server_that_changes_its_weights(gateway: ScriptedGateway, many: Path, tmp_path: Path) -> None:
    gateway.answer = lambda items: (
        embeddings(len(items)) if len(gateway.requests) < 20 else embeddings(len(items), "PE-Test@ffffffffffff")
    )
    result = pe_embed(many, "--out", tmp_path / "rows.parquet", "--url", gateway.url)
    assert result.returncode == 1
    assert "they cannot be compared" in result.stderr
    parts = list(tmp_path.glob("rows.parquet.parts/part-*"))
    assert sum(len(rows(part)) for part in parts) > 0
    gateway.info["models"]["PE-Test"]["embedding_space"] = "PE-Test@ffffffffffff"
    again = pe_embed(many, "--out", tmp_path / "rows.parquet", "--url", gateway.url)
    assert again.returncode == 2
    assert "has embeddings of PE-Test@0123456789ab, and this run has embeddings of PE-Test@ffffffffffff" in again.stderr


def test_rows_with_errors_are_tried_again_when_asked(gateway: ScriptedGateway, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / f"{name}.jpg").write_text("bad" if name == "b" else name)
    gateway.answer = slow
    arguments = [str(folder), "--out", str(tmp_path / "rows.parquet"), "--url", gateway.url]
    assert main(arguments) == 0
    (folder / "b.jpg").write_text("good")
    (folder / "d.jpg").write_text("d")
    gateway.requests.clear()
    assert main(arguments) == 0
    assert gateway.requests == [[b"d"]]
    assert main([*arguments, "--retry-failed"]) == 0
    assert gateway.requests == [[b"d"], [b"good"]]
    found = rows(tmp_path / "rows.parquet")
    assert [*found] == ["a.jpg", "c.jpg", "d.jpg", "b.jpg"]
    assert all(row["error"] is None and row["embedding"] for row in found.values())


def test_rows_of_files_that_are_gone(gateway: ScriptedGateway, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.jpg").write_text(name)
    arguments = [str(folder), "--out", str(tmp_path / "rows.parquet"), "--url", gateway.url]
    assert main(arguments) == 0
    (folder / "a.jpg").unlink()
    assert main(arguments) == 0
    assert list(rows(tmp_path / "rows.parquet")) == ["a.jpg", "b.jpg"]
    assert main([*arguments, "--remove-gone"]) == 0
    assert list(rows(tmp_path / "rows.parquet")) == ["b.jpg"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--dtype", "float16"], "has embeddings in float32, and this run has embeddings in float16"),
        (["--shard", "1/2"], "has the shard 1/1, and this run has the shard 1/2"),
        (["--text"], "has the source: pictures of the folder .*, and this run has the source: texts of the folder"),
    ],
)
def test_another_run_is_not_continued(
    gateway: ScriptedGateway, tmp_path: Path, change: list[str], message: str
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.jpg").write_text("a")
    (folder / "a.txt").write_text("a")
    arguments = (folder, "--out", tmp_path / "rows.parquet", "--url", gateway.url)
    assert pe_embed(*arguments).returncode == 0
    other = pe_embed(*arguments, *change)
    assert other.returncode == 2
    assert re.search(message, other.stderr)


def test_memory_is_bounded(gateway: ScriptedGateway, tmp_path: Path) -> None:
    """2 GB of pictures pass, and the server is slow; a run that held them all would not fit into the limit."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    with (folder / "0.jpg").open("wb") as file:
        file.truncate(10 * 2**20)
    for number in range(1, 200):
        os.link(folder / "0.jpg", folder / f"{number}.jpg")
    gateway.info["limits"]["max_body_bytes"] = 64 * 2**20
    active = threading.Semaphore(4)

    def answer(items: list[bytes]) -> Answer:
        if not active.acquire(blocking=False):
            return error(429, "full", Retry_After="0")
        try:
            return slow(items)
        finally:
            active.release()
            gateway.requests.clear()

    gateway.answer = answer
    result = subprocess.run(
        ["bash", "-c", 'ulimit -v $((6 * 1024 * 1024)); exec "$@"', "-", *PE_EMBED, folder, "--url", gateway.url,
         "--out", tmp_path / "rows.parquet"],
        capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert len(rows(tmp_path / "rows.parquet")) == 200


# -- wrong use


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: SOURCE"),
        (["x"], "one of the arguments --out --into is required"),
        (["x", "--out", "a.parquet", "--into", "lancedb:x"], "not allowed with"),
        (["none", "--out", "a.parquet"], "none: there is no such file or folder."),
        (["pictures", "--out", "a.csv"], "the name must end with .parquet or .npy"),
        (
            ["pictures", "--into", "mysql://x"],
            "mysql:...: this is no database that is known. Expected lancedb:PATH",
        ),
        (["pictures", "--into", "pictures.db"], "--into pictures.db: this is no database that is known"),
        (["pictures", "--into", "lancedb"], "--into lancedb: this is no database that is known"),
        (["pictures", "--out", "a.parquet", "--shard", "0/16"], "expected NUMBER/COUNT, from 1/16 to 16/16"),
        (["pictures", "--out", "a.parquet", "--shard", "1/16", "--remove-gone"], "needs the whole source"),
        (["pictures", "--out", "a.parquet", "--dtype", "int8"], "invalid choice"),
        (["pictures", "--out", "a.parquet", "--give-up", "0"], "0 is not a number above 0"),
        (["pictures", "--out", "a.parquet", "--give-up", "soon"], "soon is not a number above 0"),
        (["pictures", "pictures", "--out", "a.parquet"], "only pictures, URLs and tar files may be several"),
        (["file.pdf", "--out", "a.parquet"], "this is no folder, list (.txt, .list, .lst, or -"),
        (["a.csv", "--out", "a.parquet"], "name the column of the pictures or texts with --column"),
        (["a.csv", "--column", "b", "--out", "a.parquet"], "has no column 'b'. It has: a."),
        (["a.csv", "--columns", "x,id", "--out", "a.parquet"], "every output has a column 'id' of its own"),
        (["a.tar", "--out", "a.parquet"], "this tar file cannot be read"),
        (["a.tar", "pictures", "--out", "a.parquet"], "Tar files cannot be mixed"),
        (["a.png", "--text", "--out", "a.parquet"], "is no text"),
    ],
)
def test_wrong_arguments(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pictures").mkdir()
    for name in ("file.pdf", "a.tar", "a.png"):
        Path(name).write_text("x")
    Path("a.csv").write_text("a\nx\n")
    try:
        status = main(arguments)
    except SystemExit as error:
        status = int(str(error.code))
    assert status == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("a.parquet*"))


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        ({}, "There are no pictures of the folder"),
        ({"notes.txt": "x"}, "1 other files are there: --all-files sends them, too."),
        ({"list.txt": "\n\n"}, "There are no files of the list"),
        ({"table.csv": "file,id\na,1\nb,1\n"}, "The id '1' occurs twice in the pictures of the column file by id"),
        ({"table.csv": "file,id\n"}, "There are no pictures of the column file"),
    ],
)
def test_sources_that_cannot_be_embedded(
    gateway: ScriptedGateway, tmp_path: Path, capsys: pytest.CaptureFixture[str], fill: dict[str, str], message: str
) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    for name, text in fill.items():
        (folder / name).write_text(text)
    name = next((name for name in fill if name != "notes.txt"), "")
    more = ["--column", "file", "--id-column", "id"] if name.endswith("csv") else []
    arguments = [str(folder / name), "--out", str(tmp_path / "rows.parquet"), "--url", gateway.url, *more]
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_folder_with_a_folder_that_cannot_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        (folder / "locked").mkdir(mode=0)
        folder.chmod(0o755)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)  # Root reads everything.
        try:
            assert main([str(folder), "--out", str(folder / "rows.parquet")]) == 2
        finally:
            if root:
                os.seteuid(0)
            (folder / "locked").chmod(0o755)
    said = capsys.readouterr().err
    assert "locked: this folder cannot be read: Permission denied. Make it readable, move it, or leave it out" in said
    assert "find FOLDER -type f | pe-embed -" in said


def test_no_server(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(pictures), "--out", str(tmp_path / "rows.parquet"), "--url", "http://127.0.0.1:1"]) == 1
    assert "No server answers at http://127.0.0.1:1" in capsys.readouterr().err
    assert not list(tmp_path.glob("rows*"))


def test_every_row_has_an_error(
    gateway: ScriptedGateway, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.answer = lambda items: error(400, "Could not load input image.")
    arguments = [str(pictures), "--out", str(tmp_path / "rows.parquet"), "--url", gateway.url]
    assert main(arguments) == 1
    assert all(row["error"] for row in rows(tmp_path / "rows.parquet").values())
    assert "\n  37 more: the column `error` has all of them." in capsys.readouterr().err
    assert main(arguments) == 1, "a second run does not make them right"
    assert "40 rows have an error from before. --retry-failed tries them again." in capsys.readouterr().err


def test_the_key_comes_from_the_environment(serve: Callable[..., PeServe], pictures: Path, tmp_path: Path) -> None:
    url = serve(PE_API_KEYS="right").wait_until_ready()
    arguments = (pictures, "--out", tmp_path / "rows.parquet", "--url", url)
    refused = pe_embed(*arguments)
    assert refused.returncode == 1
    assert "refuses the API key" in refused.stderr
    assert pe_embed(*arguments, PE_API_KEY="right").returncode == 0


def test_a_picture_as_an_argument(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.png").write_bytes(picture(1))
    Path("b.png").write_bytes(picture(2))
    assert main(["a.png", "b.png", "--out", "rows.parquet", "--url", server]) == 0
    assert list(rows(Path("rows.parquet"))) == ["a.png", "b.png"]
