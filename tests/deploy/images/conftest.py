"""The machine that the services of deploy/compose.yaml run on, and what stands there for their images."""

import os
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.embedded import installation, triton_process
from deploy.embedded.layout import Layout
from tests.deploy.images.dockerfile import ROOT, stages
from tests.deploy.images.machine import Image, Machine

# Options of the release that serves which the embedded one, an older, does not know.
NEWER = "--grpc-infer-thread-count="


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    if os.geteuid() != 0:
        pytest.skip("mounts need root")
    with Machine(tmp_path_factory.mktemp("machine")) as machine:
        yield machine


@pytest.fixture(scope="session")
def gateway_image(machine: Machine) -> Image:
    """The real one, but for its base."""
    return machine.build(stages(ROOT / "deploy/images/gateway.Dockerfile"), machine.python_image())


@pytest.fixture(scope="session")
def triton_image(machine: Machine) -> Image:
    """A `tritonserver` that is the embedded one, with the backends that it lacks."""
    found = installation.find(installation.candidate_environments(Path("/nonexistent")))
    parts, there = machine.directory / "parts", Path("/opt/parts")
    parts.mkdir()
    layout = Layout(parts, found)
    environment = triton_process.process_environment(found, there / layout.libraries.name)
    changed = [f"{name}={value}" for name, value in environment.items() if os.environ.get(name) != value]
    program = machine.directory / "tritonserver"
    program.write_text(
        "#!/bin/bash\n"
        "known=()\n"
        f'for argument in "$@"; do [[ $argument == {NEWER}* ]] || known+=("$argument"); done\n'
        f'exec env {shlex.join(changed)} {found.server} "${{known[@]}}" '
        f"--backend-directory={there / layout.backends.name} "
        f"--cache-directory={found.server.parents[1]}/caches --allow-gpu-metrics=false\n"
    )
    program.chmod(0o755)
    return machine.image_with({parts: str(there), program: "/usr/local/bin/tritonserver"})


@pytest.fixture(scope="session")
def export_image(machine: Machine) -> Image:
    """The exporter's environment as the tests have it, run as its Dockerfile says."""
    (stage,) = stages(ROOT / "deploy/images/export.Dockerfile")
    image = machine.image_with({})
    for instruction in stage.of("ENV"):
        variables = dict(word.split("=", 1) for word in instruction.words)
        image.environment |= variables | {"PATH": f"{ROOT}/.venv-export/bin:{image.environment['PATH']}"}
    image.environment["PYTHONPATH"] = str(ROOT)
    image.user = stage.of("USER")[-1].value
    image.entrypoint = stage.of("ENTRYPOINT")[-1].words[1:]
    return image


@pytest.fixture
def project_version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])
