import mmap
import os
import time
from pathlib import Path

import pytest

from deploy.embedded import shared_memory


def segment(directory: Path, name: str) -> Path:
    path = directory / f"triton_onnxruntime_backend_shm_region_{name}"
    path.write_bytes(bytes(mmap.PAGESIZE))
    return path


def test_removes_what_nobody_uses(tmp_path: Path) -> None:
    started = time.time()
    left, other = segment(tmp_path, "left"), tmp_path / "psm_of_another_program"
    other.touch()
    shared_memory.remove_unused(started, tmp_path)
    assert not left.exists()
    assert other.exists()


def test_leaves_what_a_process_has_mapped(tmp_path: Path) -> None:
    started = time.time()
    used = segment(tmp_path, "used")
    with used.open("r+b") as file, mmap.mmap(file.fileno(), 0):
        shared_memory.remove_unused(started, tmp_path)
    assert used.exists()


def test_leaves_what_another_triton_may_just_have_made(tmp_path: Path) -> None:
    fresh = segment(tmp_path, "fresh")
    shared_memory.remove_unused(time.time() + 10, tmp_path)
    assert fresh.exists()


def test_removes_what_was_left_long_ago(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stale = segment(tmp_path, "stale")
    monkeypatch.setattr(shared_memory, "_STALE_SECONDS", -20.0)
    shared_memory.remove_unused(time.time() + 10, tmp_path)
    assert not stale.exists()


def test_leaves_what_is_another_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = segment(tmp_path, "theirs")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    shared_memory.remove_unused(0, tmp_path)
    assert theirs.exists()
