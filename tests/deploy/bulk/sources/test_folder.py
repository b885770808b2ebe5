"""Folders, as users have them."""

import os
from pathlib import Path

import pytest

from deploy.bulk.errors import ItemError, UsageError
from deploy.bulk.sources.folder import Folder

pytestmark = pytest.mark.bulk

MAX_BYTES = 1000


def fill(folder: Path, *names: str) -> Path:
    """Write files whose contents are their names."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


def test_pictures_in_the_order_of_their_paths(tmp_path: Path) -> None:
    fill(tmp_path, "b/2.JPG", "b/10.jpeg", "a.png", "B.webp", "ü.heic", "b/c/1.tiff")
    folder = Folder(tmp_path)
    ids = ["B.webp", "a.png", "b/10.jpeg", "b/2.JPG", "b/c/1.tiff", "ü.heic"]
    assert list(folder.ids()) == [item.id for item in folder] == ids
    assert [item.load(MAX_BYTES) for item in folder] == [item_id.encode() for item_id in ids]
    assert [item.columns["folder"] for item in folder] == ["", "", "b", "b", "b/c", ""]


def test_other_files_are_left_out_and_counted(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "notes.txt", "README", "sound.mp3", ".hidden.jpg", ".git/b.jpg", "._a.jpg")
    folder = Folder(tmp_path)
    assert list(folder.ids()) == ["a.jpg"]
    assert folder.skipped == 3
    assert list(Folder(tmp_path, all_files=True).ids()) == ["README", "a.jpg", "notes.txt", "sound.mp3"]


def test_texts(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "ü.txt")
    (tmp_path / "latin.txt").write_bytes(b"\xfc")
    latin, text = Folder(tmp_path, text=True)
    assert text.load(MAX_BYTES) == "ü.txt"
    with pytest.raises(ItemError, match="not UTF-8: invalid start byte at byte 0"):
        latin.load(MAX_BYTES)


def test_loops_of_links_end(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "a/up").symlink_to("..")
    (tmp_path / "a/b").symlink_to("../b")
    (tmp_path / "b/a").symlink_to("../a")
    (tmp_path / "itself.jpg").symlink_to("itself.jpg")
    assert list(Folder(tmp_path).ids()) == ["a/1.jpg", "a/b/2.jpg", "itself.jpg"]


def test_a_link_to_a_file_is_followed_and_one_to_nothing_is_an_error_of_its_row(tmp_path: Path) -> None:
    fill(tmp_path, "x/1.jpg")
    (tmp_path / "good.jpg").symlink_to("x/1.jpg")
    (tmp_path / "lost.jpg").symlink_to("nowhere")
    items = {item.id: item for item in Folder(tmp_path)}
    assert items["good.jpg"].load(MAX_BYTES) == b"x/1.jpg"
    with pytest.raises(ItemError, match="No such file"):
        items["lost.jpg"].load(MAX_BYTES)


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff\xfe.jpg"
    with open(name, "wb") as file:
        file.write(b"data")
    (item,) = Folder(tmp_path)
    assert item.id == r"\xff\xfe.jpg"
    item.id.encode()
    assert item.load(MAX_BYTES) == b"data"


def test_long_files_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "long.jpg"
    with path.open("wb") as file:
        file.truncate(2**40)  # a hole: more than there is memory
    (item,) = Folder(tmp_path)
    with pytest.raises(ItemError, match=r"1099511627776 bytes\. The server reads at most 1000"):
        item.load(MAX_BYTES)


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert list(Folder(tmp_path).ids()) == []
    (tmp_path / "null.jpg").symlink_to("/dev/zero")
    (item,) = Folder(tmp_path)
    with pytest.raises(ItemError, match="no regular file"):
        item.load(MAX_BYTES)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        Folder(tmp_path / "none")
    with pytest.raises(UsageError, match="Not a directory"):
        Folder(fill(tmp_path, "file") / "file")
