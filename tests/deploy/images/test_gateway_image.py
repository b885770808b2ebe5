"""The image of the gateway, as its Dockerfile builds it: what is in it, and what confines its processes."""

import json
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.deploy.images.compose_project import ComposeProject
from tests.deploy.images.conftest import install_packages
from tests.deploy.images.dockerfile import ROOT
from tests.deploy.images.engine import Engine

pytestmark = pytest.mark.containers

MB: Final = 10**6


def test_it_is_small_and_its_own_layer_is_all_that_it_adds(
    engine: Engine, gateway_image: str, python_base: str
) -> None:
    image, base = (json.loads(engine.out("image", "inspect", name))[0] for name in (gateway_image, python_base))
    assert image["Size"] - base["Size"] < 300 * MB
    layers = image["RootFS"]["Layers"]
    assert layers[: len(base["RootFS"]["Layers"])] == base["RootFS"]["Layers"]
    # The removal of pip, and /opt/gateway: neither the build stage nor a downloaded file is in between.
    assert len(layers) == len(base["RootFS"]["Layers"]) + 2


def test_no_setting_of_the_build_is_in_it(engine: Engine, gateway_image: str) -> None:
    """How the builder reached the index, and which certificates it trusted, came as secrets."""
    history = engine.out("history", "--no-trunc", "--format", "{{.CreatedBy}}", gateway_image)
    assert "pip.conf" not in history
    said = _inside(engine, gateway_image, "ls /etc/pip.conf /run/secrets 2>&1; cat /opt/gateway/pyvenv.cfg")
    assert said.count("No such file or directory") == 2


def test_it_holds_what_serves_and_nothing_that_builds(engine: Engine, gateway_image: str) -> None:
    said = _inside(
        engine,
        gateway_image,
        "id -u; ls /opt /opt/gateway/bin /opt/gateway/lib/python*/site-packages; python -m pip --version 2>&1; "
        "python -c 'from gateway.http.health import gateway_version as v; print(\"version\", v())'",
    )
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    lines = said.splitlines()
    assert lines[0] == "10001"
    assert {"pe-gateway", "fastapi", f"version {version}"} <= set(lines)
    assert "No module named pip" in said
    absent = {"pe-serve", "pe-export", "build", "pip3", "torch", "onnx", "onnxruntime", "nvidia", "hatchling", "src"}
    assert not absent & set(lines)


def test_it_can_send_traces(engine: Engine, gateway_image: str) -> None:
    """It starts with PE_TRACES, for which the SDK of OpenTelemetry has to be there."""
    container = engine.out("run", "--detach", "--network=none", "--env", "PE_TRACES=True", gateway_image).strip()
    try:
        end = time.monotonic() + 60
        while "Listening on" not in (said := _log(engine, container)):
            assert json.loads(engine.out("inspect", container))[0]["State"]["Running"], said
            assert time.monotonic() < end, said
            time.sleep(0.2)
    finally:
        engine.run("rm", "--force", container)


def test_the_processes_that_decode_are_confined_within_the_container_too(
    compose_project: Callable[..., ComposeProject], gateway_image: str, tmp_path: Path
) -> None:
    """The tests of that confinement, run in the image as Compose confines it, under Docker's own seccomp profile."""
    names = ("pytest", "pytest-asyncio", "pytest-xdist", "hypothesis")
    install_packages(tmp_path / "pytest", "--constraint", ROOT / "constraints/dev.txt", *names)
    run = compose_project("cpu").run(
        *("run", "--rm", "--no-deps", "--no-TTY", "--entrypoint", "python"),
        *("--volume", f"{ROOT / 'tests'}:/checkout/tests:ro"),
        *("--volume", f"{ROOT / 'pyproject.toml'}:/checkout/pyproject.toml:ro"),
        *("--volume", f"{tmp_path / 'pytest'}:/pytest:ro", "--env", "PYTHONPATH=/pytest:/checkout"),
        *("--workdir", "/checkout", "gateway", "-m", "pytest", "-n=0", "-m=slow", "-p", "no:cacheprovider", "-q"),
        "tests/gateway/images/confined/test_confinement.py",
        seconds=300,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    assert " passed" in run.stdout


def _inside(engine: Engine, image: str, script: str) -> str:
    """What a shell prints in a container of an image, without a network."""
    return engine.out("run", "--rm", "--network=none", "--entrypoint", "sh", image, "-c", script)


def _log(engine: Engine, container: str) -> str:
    run = engine.run("logs", container)
    return run.stdout + run.stderr
