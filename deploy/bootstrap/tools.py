"""Servers of Debian's packages that the tests run: unpacked into ``.tools``, not installed, which would start them.

Nobody's machine should serve on port 80 because its owner ran a test, and unpacking needs no root.
"""

import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.bootstrap.environment import Processes
from deploy.bootstrap.errors import BootstrapError

# Of each program.
PACKAGES: Final = {"nginx": "nginx", "openssl": "openssl", "prometheus": "prometheus", "promtool": "prometheus"}
_FOLDERS: Final = ("usr/bin", "usr/sbin")


@dataclass(frozen=True)
class Tools:
    """Those of ``packages`` that are not on the path; built and asked after like an Environment."""

    root: Path
    packages: Mapping[str, str]
    name: str = ".tools"

    @property
    def path(self) -> Path:
        return self.root / self.name

    def find(self, program: str) -> Path | None:
        """On the path, where Debian puts servers, or in ``.tools``."""
        ours = [str(self.path / folder) for folder in _FOLDERS]
        found = shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", *ours]))
        return Path(found) if found else None

    def missing(self) -> list[str]:
        """The packages of which a program is not to be found."""
        return sorted({package for program, package in self.packages.items() if self.find(program) is None})

    def build(self, processes: Processes) -> str:
        """Unpacks what is missing; returns what was done, for a person. Raises BootstrapError."""
        started, wanted = time.monotonic(), self.missing()
        if shutil.which("apt-get") is None:
            raise BootstrapError(f"the tests run programs of {' and '.join(wanted)}. Put them on the path.")
        unfinished = self.root / f"{self.name}.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        failure = f"could not download {', '.join(wanted)} (are the lists old? `apt-get update`)"
        if os.geteuid() == 0:
            with suppress(BootstrapError):  # it may fail for a source that is not needed
                processes.run(["apt-get", "update", "-q"], "could not update the lists of packages")
        processes.run(["env", f"--chdir={unfinished}", "apt-get", "download", "-q", *wanted], failure)
        for archive in sorted(unfinished.glob("*.deb")):
            processes.run(["dpkg-deb", "--extract", str(archive), str(unfinished)], f"could not unpack {archive.name}")
            archive.unlink()
        shutil.copytree(unfinished, self.path, symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(unfinished)
        if left := self.missing():
            raise BootstrapError(f"Debian's {' and '.join(left)} came without the programs that the tests run.")
        return f"{self.name} made in {time.monotonic() - started:.0f} s ({', '.join(wanted)}, for the tests)"
