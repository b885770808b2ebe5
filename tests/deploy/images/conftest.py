"""A real Docker engine, the images that it builds, and what stands in for images that cannot be had here."""

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.deploy.images import package_index
from tests.deploy.images.compose_project import ComposeProject
from tests.deploy.images.dockerfile import ROOT, stages
from tests.deploy.images.engine import TOOLS, Engine, EngineUnavailable, running_engine
from tests.running import free_port
from tests.tools import find_tool

# The stand-in for NVIDIA's image has TensorRT for RTX. Its library is named as NVIDIA names TensorRT's.
PINS: Final = (ROOT / "constraints/export-dev.txt").read_text()
TENSORRT: Final = re.findall(r"^tensorrt-rtx-cu13-libs==(\d+\.\d+\.\d+)", PINS, re.M)[0]
# Packages for the images' Python, kept for the next run.
TORCH: Final = TOOLS / "torch"
_LARGE: Final = re.compile(r"(torch|triton|nvidia-[\w-]+|cuda-toolkit)==")
_STAND_INS: Final = Path(__file__).with_name("stand_ins")
_BUILD_S: Final = 600


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    try:
        with running_engine() as engine:
            yield engine
    except EngineUnavailable as error:
        pytest.fail(f"The container tests need a Docker engine. {error}", pytrace=False)


@pytest.fixture(scope="session")
def python_base(engine: Engine) -> str:
    """Stands in for the official image of Python."""
    archive = TOOLS / "debian.tar"
    assert archive.exists(), "`make containers` brings .tools/engine/debian.tar"
    with archive.open("rb") as file:
        debian = f"pe-test/debian:{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"
    if engine.run("image", "inspect", debian, check=False).returncode:
        engine.run("import", archive, debian)
    return _stand_in(engine, "python", "--build-arg", f"DEBIAN={debian}")


@pytest.fixture(scope="session")
def triton_image(engine: Engine, python_base: str) -> str:
    """Stands in for NVIDIA's image of Triton."""
    packages, tensorrt = TOOLS / "triton", TOOLS / "tensorrt"
    install_packages(packages, "--no-deps", "--require-hashes", "-r", ROOT / "constraints/triton.txt")
    install_pinned(tensorrt, "export-dev", re.compile(r"tensorrt-rtx-"))
    return _stand_in(
        engine,
        "tritonserver",
        *("--build-arg", f"TENSORRT={TENSORRT}"),
        *("--build-context", f"packages={packages}"),
        *("--build-context", f"tensorrt={tensorrt}"),
        *("--build-context", f"backend={ROOT / 'deploy/embedded/backend'}"),
    )


@pytest.fixture(scope="session")
def prometheus_image(engine: Engine, python_base: str) -> str:
    """Stands in for Prometheus's image."""
    folder = find_tool("prometheus").resolve().parent
    return _stand_in(engine, "prometheus", "--build-context", f"tools={folder}")


def _stand_in(engine: Engine, name: str, *options: str) -> str:
    image = f"pe-test/{name}"
    engine.run(
        *("buildx", "build", "--load", "--network=host", f"--tag={image}", *options),
        *("--file", _STAND_INS / f"{name}.Dockerfile", _STAND_INS),
        seconds=_BUILD_S,
    )
    return image


@pytest.fixture(scope="session")
def export_base(engine: Engine, triton_image: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same, where torch and CUDA's libraries look installed: an image of them would take minutes to make.

    The packages are real, and are mounted into containers.
    """
    stubs = tmp_path_factory.mktemp("stubs")
    install_pinned(TORCH, "export", _LARGE)
    for found in TORCH.glob("*.dist-info"):
        (stubs / found.name).mkdir()
        for name in ("METADATA", "INSTALLER"):
            shutil.copy(found / name, stubs / found.name / name)
        (stubs / found.name / "RECORD").touch()
    return _stand_in(engine, "export-base", "--build-context", f"stubs={stubs}")


def install_pinned(target: Path, pins: str, wanted: re.Pattern[str]) -> None:
    """Install those packages of a file of constraints/ that a pattern matches, as `install_packages` does."""
    pinned = re.split(r"\n(?=\S)", (ROOT / f"constraints/{pins}.txt").read_text())
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write("\n".join(requirement for requirement in pinned if wanted.match(requirement)))
        requirements.flush()
        install_packages(target, "--no-deps", "--require-hashes", "-r", requirements.name)


def install_packages(target: Path, *requirements: str | Path) -> None:
    """Install Python packages for the images' Python into a folder, from uv's cache where it has them."""
    command: list[str | Path] = [ROOT / ".tools/uv/bin/uv", "--quiet", "pip", "install", "--target", target]
    command += ["--python", sys.executable, "--python-version", "3.11", "--only-binary", ":all:", *requirements]
    run = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, timeout=_BUILD_S)
    assert run.returncode == 0, run.stderr


@pytest.fixture(scope="session")
def compose_project(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ComposeProject]:
    """compose_project("cpu", PE_MODELS="2") -> the Compose file with a profile, and variables of the shell."""
    index = package_index.write_settings(tmp_path_factory.mktemp("index"))
    base = {name: stages(ROOT / f"deploy/images/{name}.Dockerfile")[0].base for name in ("gateway", "export")}
    release = (ROOT / "deploy/triton-release.txt").read_text().strip()

    def make(profile: str, **variables: str) -> ComposeProject:
        port, prometheus_port = free_port(), free_port()
        environment = {
            "COMPOSE_PROFILES": profile,
            "EXPORT_BASE": base["export"].replace("${TRITON_RELEASE}", release),
            "GATEWAY_BASE": base["gateway"].removeprefix("docker.io/library/"),
            "PE_PUBLISH": f"127.0.0.1:{port}",
            "PROMETHEUS_PORT": str(prometheus_port),
            "TORCH": str(TORCH),
        }
        return ComposeProject(engine, environment | index | variables, port, prometheus_port)

    return make


@pytest.fixture(scope="session")
def gateway_image(compose_project: Callable[..., ComposeProject], python_base: str) -> str:
    """The real one, but for its base."""
    compose_project("cpu").run("build", "gateway", seconds=_BUILD_S)
    return "pe-test/gateway"


@pytest.fixture(scope="session")
def export_image(compose_project: Callable[..., ComposeProject], export_base: str) -> str:
    """The real one, but for its base."""
    compose_project("gpu").run("build", "export", seconds=_BUILD_S)
    return "pe-test/export"
