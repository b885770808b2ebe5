import os
import platform
from pathlib import Path

import pytest

from deploy.bootstrap import system
from deploy.bootstrap.errors import BootstrapError
from deploy.embedded import libpython


@pytest.fixture
def apt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An apt-get that writes down what it was asked, run by root; it fails if a file `fail` is there."""
    script = f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n[ ! -e {tmp_path}/fail ] || {{ echo broken >&2; exit 100; }}\n'
    (tmp_path / "apt-get").write_text(script)
    (tmp_path / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return tmp_path


def test_installs_as_root(apt: Path) -> None:
    system.install(["libgl1"])
    assert (apt / "asked").read_text().splitlines() == ["update", "install -y --no-install-recommends libgl1"]


def test_shows_why_it_could_not(apt: Path) -> None:
    (apt / "fail").touch()
    with pytest.raises(BootstrapError, match="broken"):
        system.install(["libgl1"])


def test_tells_others_what_to_type(apt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(BootstrapError, match="sudo apt-get install -y --no-install-recommends libgl1 libx"):
        system.install(["libgl1", "libx"])
    assert not (apt / "asked").exists()


def test_a_missing_library_is_found_by_loading_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "_OPENCV", {"libc.so.6": "libc6", "libnothere.so.9": "libnothere9"})
    assert system.missing_for_opencv() == ["libnothere9"]


def test_a_python_without_ensurepip(monkeypatch: pytest.MonkeyPatch) -> None:
    assert system.missing_for_venv() == []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert [name.rpartition("-")[2] for name in system.missing_for_venv()] == ["venv"]


def test_a_python_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libpython, "find", lambda interpreter: None)
    (package,) = system.missing_for_triton()
    assert package.startswith("libpython3.")
    monkeypatch.setattr(libpython, "find", lambda interpreter: Path("libpython3.11.so.1.0"))
    assert system.missing_for_triton() == []


def test_other_machines_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    system.require_linux_x86_64()
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(BootstrapError, match="linux on aarch64"):
        system.require_linux_x86_64()
