"""The files in constraints/: all that an environment installs, each file by its hash."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).parents[2]
PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
FILES: Final = sorted((ROOT / "constraints").glob("*.txt"))
# One requirement, perhaps for some machines only, then its hashes, a continued line each.
ENTRY: Final = re.compile(r"^(\S+)==(\S+)(?: ; [^\\\n]+)?((?: \\\n {4}--hash=sha256:[0-9a-f]{64})+)$", re.MULTILINE)


def pinned(name: str) -> dict[str, str]:
    """Version by package, of one file."""
    entries = ENTRY.findall((ROOT / f"constraints/{name}.txt").read_text("utf-8"))
    return {canonicalize_name(package): version for package, version, _ in entries}


def group(name: str) -> list[str]:
    """The requirements of a dependency group, those of the groups that it includes too."""
    found = []
    for entry in PROJECT["dependency-groups"][name]:
        found += [entry] if isinstance(entry, str) else group(entry["include-group"])
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_holds_nothing_but_versions_and_hashes(path: Path) -> None:
    """No index, no URL, and nothing that could be installed without a hash."""
    text = path.read_text("utf-8")
    assert ENTRY.search(text)
    rest = ENTRY.sub("", re.sub(r"^#.*$", "", text, flags=re.MULTILINE))
    assert rest.strip() == ""
    assert "://" not in text


@pytest.mark.parametrize(
    ("name", "requirements"),
    [
        ("gateway", PROJECT["project"]["dependencies"]),
        (
            "gateway-image",
            [*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["otel"]],
        ),
        ("dev", [*PROJECT["project"]["dependencies"], *group("dev")]),
        ("export", PROJECT["project"]["optional-dependencies"]["export"]),
        ("export-dev", [*PROJECT["project"]["optional-dependencies"]["export"], *group("export-test")]),
        ("build", PROJECT["build-system"]["requires"]),
        ("bench", group("perf-analyzer")),
        ("clients", group("clients")),
        *(
            (name, (ROOT / f"deploy/embedded/{file}.txt").read_text().splitlines())
            for name, file in (
                ("triton", "requirements"),
                ("triton-openvino", "requirements"),
                ("triton-openvino", "requirements-openvino"),
                ("triton-cuda", "requirements-cuda"),
            )
        ),
    ],
)
def test_a_file_has_what_pyproject_asks_for(name: str, requirements: list[str]) -> None:
    versions = pinned(name)
    for text in requirements:
        if not (text := text.partition("#")[0].strip()):
            continue
        requirement = Requirement(text)
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), text


def test_the_gateway_is_served_as_it_was_tested() -> None:
    assert pinned("gateway").items() <= pinned("dev").items()
    assert pinned("export").items() <= pinned("export-dev").items()
    assert pinned("triton").items() <= pinned("triton-openvino").items()


def test_the_environment_for_gpus_differs_from_that_for_cpus_in_onnxruntime_alone() -> None:
    cpu, gpu = pinned("triton-openvino"), pinned("triton-cuda")
    assert cpu.keys() - gpu.keys() == {"onnxruntime"}  # whose module is that of onnxruntime-gpu
    assert {name: gpu[name] for name in cpu.keys() & gpu.keys()} == {n: v for n, v in cpu.items() if n in gpu}
    added = gpu.keys() - cpu.keys()
    assert "onnxruntime-gpu" in added
    assert all(name.startswith("nvidia-") for name in added - {"onnxruntime-gpu"})


def test_the_gateway_stays_small() -> None:
    """What takes gigabytes, or must not share an environment with numpy 2, is in others."""
    assert not pinned("gateway").keys() & {"torch", "onnx", "onnxruntime", "openvino", "nvidia-pytriton", "tensorrt"}
    assert len(pinned("gateway")) < 60


# The gateway's image is for both. cykooz-resizer has wheels for x86-64 only, and a marker that says so.
WITHOUT_WHEELS: Final = {"x86_64": set[str](), "aarch64": {"cykooz-resizer"}}


def install(machine: str, path: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """Resolve what the image's Dockerfile installs, for another machine than this one. Nothing is installed."""
    command: list[str | Path] = [ROOT / ".tools/uv/bin/uv", "pip", "install", "--dry-run", "--target", target]
    command += ["--python-version", "3.11", "--python-platform", f"{machine}-manylinux_2_36"]  # Debian 12's glibc
    command += ["--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", path]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["build", "gateway", "gateway-image"])
@pytest.mark.parametrize("machine", WITHOUT_WHEELS)
def test_the_gateways_packages_have_wheels_for_both_machines(machine: str, name: str, tmp_path: Path) -> None:
    run = install(machine, ROOT / f"constraints/{name}.txt", tmp_path)
    assert run.returncode == 0, run.stderr
    found = {canonicalize_name(line.split()[1].split("==")[0]) for line in run.stderr.splitlines() if " + " in line}
    assert set(pinned(name)) - found == (WITHOUT_WHEELS[machine] & set(pinned(name)))


@pytest.mark.slow
def test_a_package_without_a_wheel_is_noticed(tmp_path: Path) -> None:
    text = (ROOT / "constraints/gateway-image.txt").read_text("utf-8")
    unmarked = text.replace(" ; platform_machine == 'x86_64'", "")
    assert unmarked != text
    (tmp_path / "pins.txt").write_text(unmarked)
    run = install("aarch64", tmp_path / "pins.txt", tmp_path)
    assert run.returncode != 0
    assert "cykooz-resizer" in run.stderr
