"""CPUs by affinity and by quota, from written files of cgroups and by a real cgroup."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from gateway.cpus import usable_cpus

V2: Final = "30 23 0:26 {root} {mount} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1: Final = "31 23 0:27 {root} {mount} rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
CPUSET: Final = "32 23 0:28 / /nowhere rw,nosuid - cgroup cgroup rw,cpuset\n"


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))


def process(tmp_path: Path, memberships: str, mount: str, root: str = "/") -> Path:
    """Write what /proc says of a process."""
    (tmp_path / "cgroup").write_text(memberships)
    (tmp_path / "mountinfo").write_text(CPUSET + mount.format(root=root, mount=tmp_path / "fs"))
    return tmp_path


def version_2(directory: Path, quota: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "cpu.max").write_text(f"{quota}\n")


def version_1(directory: Path, quota: int, period: int) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (directory / "cpu.cfs_period_us").write_text(f"{period}\n")


@pytest.mark.parametrize(
    ("quota", "cpus"),
    [("max 100000", 8), ("200000 100000", 2), ("250000 100000", 2), ("50000 100000", 1), ("9900000 100000", 8)],
)
def test_version_2_in_a_container(tmp_path: Path, quota: str, cpus: int) -> None:
    version_2(tmp_path / "fs", quota)
    assert usable_cpus(process(tmp_path, "0::/\n", V2)) == cpus


def test_version_2_in_a_unit_below_a_slice_with_a_lower_quota(tmp_path: Path) -> None:
    version_2(tmp_path / "fs/a.slice", "300000 100000")
    version_2(tmp_path / "fs/a.slice/b.service", "500000 100000")
    version_2(tmp_path / "fs/a.slice/b.service/c", "max 100000")
    assert usable_cpus(process(tmp_path, "0::/a.slice/b.service/c\n", V2)) == 3


@pytest.mark.parametrize(("quota", "period", "cpus"), [(-1, 100_000, 8), (200_000, 100_000, 2), (10_000, 100_000, 1)])
def test_version_1(tmp_path: Path, quota: int, period: int, cpus: int) -> None:
    version_1(tmp_path / "fs/a", quota, period)
    memberships = "3:cpuset:/other\n2:cpu,cpuacct:/a\n0::/\n"
    assert usable_cpus(process(tmp_path, memberships, V1)) == cpus


@pytest.mark.parametrize("root", ["/docker/x", "/"])
def test_version_1_in_a_container_with_the_path_of_the_machine(tmp_path: Path, root: str) -> None:
    """Docker mounts the container's own cgroup, and /proc names its path on the machine."""
    version_1(tmp_path / "fs", 400_000, 100_000)
    assert usable_cpus(process(tmp_path, "2:cpu,cpuacct:/docker/x\n", V1, root)) == 4


@pytest.mark.parametrize(("memberships", "mount"), [("", ""), ("0::/../../x\n", V2), ("nonsense\n", "nonsense\n")])
def test_without_readable_cgroups_the_affinity_counts(tmp_path: Path, memberships: str, mount: str) -> None:
    assert usable_cpus(process(tmp_path, memberships, mount)) == 8


def test_without_proc_the_affinity_counts(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path / "nowhere") == 8


@pytest.fixture
def real_cgroup() -> Iterator[Path]:
    """A new cgroup of this machine that may have a CPU quota."""
    for parent in (Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup/cpu,cpuacct"), Path("/sys/fs/cgroup")):
        path = parent / f"pe-test-{uuid.uuid4().hex}"
        try:
            path.mkdir()
        except OSError:
            continue
        if any((path / name).exists() for name in ("cpu.max", "cpu.cfs_quota_us")):
            yield path
            path.rmdir()
            return
        path.rmdir()
    pytest.skip("this user may not make a cgroup with a CPU quota")


@pytest.mark.slow
def test_a_real_quota(real_cgroup: Path) -> None:
    code = "from gateway.cpus import usable_cpus; print(usable_cpus())"
    command = ["sh", "-c", f'echo $$ > {real_cgroup}/cgroup.procs && exec "$0" -c "$1"', sys.executable, code]
    quota = real_cgroup / "cpu.max"
    if quota.exists():
        quota.write_text("100000 100000")
    else:
        (real_cgroup / "cpu.cfs_quota_us").write_text("100000")
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "1\n"
    assert os.cpu_count() != 1, "this test shows nothing on a machine with one CPU"
