import os
import subprocess
from pathlib import Path

import pytest

from deploy.bootstrap.environment import Processes
from deploy.bootstrap.errors import BootstrapError
from deploy.bootstrap.tools import Tools


@pytest.fixture
def apt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An apt-get that has one package, `greeter`, a real one that dpkg-deb made, and nothing else."""
    package = tmp_path / "package"
    (package / "DEBIAN").mkdir(parents=True)
    (package / "DEBIAN/control").write_text(
        "Package: greeter\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@localhost>\nDescription: none\n"
    )
    (package / "usr/sbin").mkdir(parents=True)
    (package / "usr/sbin/greet").write_text("#!/bin/sh\n")
    (package / "usr/sbin/greet").chmod(0o755)
    subprocess.run(
        ["dpkg-deb", "--build", "--root-owner-group", package, tmp_path / "greeter.deb"],
        check=True,
        capture_output=True,
    )
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/apt-get").write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n'
        'case "$*" in update*|*download*nothing*) echo no such thing; exit 100;;\n'
        f"*download*) cp {tmp_path}/greeter.deb .;; esac\n"
    )
    (tmp_path / "bin/apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return tmp_path


def test_unpacks_what_is_not_on_the_path(apt: Path) -> None:
    tools = Tools(apt, {"greet": "greeter", "sh": "dash"})
    assert tools.missing() == ["greeter"]
    assert tools.build(Processes()).startswith(".tools made in ")
    assert tools.missing() == []
    assert tools.find("greet") == apt / ".tools/usr/sbin/greet"
    assert not (apt / ".tools.new").exists()
    assert not list((apt / ".tools").glob("*.deb"))


def test_lists_that_cannot_be_updated_may_do(apt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    Tools(apt, {"greet": "greeter"}).build(Processes())
    assert (apt / "asked").read_text().splitlines() == ["update -q", "download -q greeter"]


def test_needs_no_root(apt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    Tools(apt, {"greet": "greeter"}).build(Processes())
    assert (apt / "asked").read_text().splitlines() == ["download -q greeter"]


def test_says_what_could_not_be_downloaded(apt: Path) -> None:
    tools = Tools(apt, {"nothing": "nothing"})
    with pytest.raises(BootstrapError, match="could not download nothing"):
        tools.build(Processes())
    assert tools.missing() == ["nothing"]
    assert Tools(apt, {"greet": "greeter"}).build(Processes())  # what the failure left behind is in nobody's way


def test_a_package_without_its_program_is_an_error(apt: Path) -> None:
    with pytest.raises(BootstrapError, match="greeter came without"):
        Tools(apt, {"another": "greeter"}).build(Processes())


def test_other_systems_are_told_what_to_bring(apt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(apt))
    with pytest.raises(BootstrapError, match="prometheus"):
        Tools(apt, {"certainly-not-here": "prometheus"}).build(Processes())
