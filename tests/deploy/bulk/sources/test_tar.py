"""WebDataset's tar files."""

import io
import tarfile
from pathlib import Path

import pytest

from deploy.bulk.errors import ItemError, UsageError
from deploy.bulk.sources.tar import Tar

pytestmark = pytest.mark.bulk

MAX_BYTES = 1000
MEMBERS = {
    "d/0001.jpg": b"one",
    "d/0001.txt": b"a red circle",
    "d/0001.meta.json": b"{}",
    "d/0002.txt": b"no picture",
    "d/0003.left.png": b"left",
    "d/0003.right.png": b"right",
    "d/long.jpg": b"x" * 2000,
    "d/._0001.jpg": b"made by macOS",
}


def archive(path: Path, members: dict[str, bytes] = MEMBERS) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        folder = tarfile.TarInfo("folder.jpg")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    return path


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_pictures_with_what_belongs_to_them(tmp_path: Path, name: str) -> None:
    tar = Tar([archive(tmp_path / name)], ["txt", "meta.json"])
    items = list(tar)
    names = ["d/0001.jpg", "d/0003.left.png", "d/0003.right.png", "d/long.jpg"]
    assert list(tar.ids()) == [item.id for item in items] == [f"{name}/{member}" for member in names]
    assert [item.load(MAX_BYTES) for item in items[:3]] == [b"one", b"left", b"right"]
    assert items[0].columns == {"txt": "a red circle", "meta.json": "{}"}
    assert items[1].columns == {"txt": None, "meta.json": None}
    with pytest.raises(ItemError, match="2000 bytes"):
        items[3].load(MAX_BYTES)


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_texts(tmp_path: Path, name: str) -> None:
    items = list(Tar([archive(tmp_path / name)], [], text=True))
    assert [(item.id, item.load(MAX_BYTES)) for item in items] == [
        (f"{name}/d/0001.txt", "a red circle"),
        (f"{name}/d/0002.txt", "no picture"),
    ]


def test_several_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    paths = [archive(tmp_path / name, {"x.jpg": name.encode()}) for name in ("b.tar", "a.tar")]
    items = list(Tar(paths, []))
    assert [(item.id, item.load(MAX_BYTES)) for item in items] == [("a.tar/x.jpg", b"a.tar"), ("b.tar/x.jpg", b"b.tar")]


def test_two_of_the_same_name(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with pytest.raises(UsageError, match="have the same name"):
        Tar([archive(tmp_path / "a.tar"), archive(tmp_path / "d/a.tar")], [])


@pytest.mark.parametrize("data", [b"no tar file" * 100, b""])
def test_what_is_no_tar_file(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(UsageError, match="this tar file cannot be read") as refused:
        Tar([tmp_path / "a.tar"], [])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_one_that_was_cut_off(tmp_path: Path, name: str) -> None:
    path = archive(tmp_path / name, {f"{number}.jpg": bytes([number]) * 4000 for number in range(20)})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with pytest.raises(UsageError, match="this tar file cannot be read"):
        list(Tar([path], []).ids())


def test_one_that_changed_after_it_was_listed(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar")
    first = next(iter(Tar([path], [])))
    path.write_bytes(b"")
    with pytest.raises(ItemError, match="ends within this member"):
        first.load(MAX_BYTES)
    path.unlink()
    with pytest.raises(ItemError, match="No such file"):
        first.load(MAX_BYTES)
