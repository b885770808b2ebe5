"""A pod of deploy/kubernetes, of the overlay for CPUs, as a kubelet would run it: environment, mounts, users, probes
and order are the rendered manifest's.
"""

import json
import shlex
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.images.dockerfile import ROOT
from tests.deploy.images.machine import Container, Image, Machine
from tests.deploy.images.test_cpu_profile import BLOCKS, CURL
from tests.deploy.test_kubernetes import containers, expanded, named, pods, render

pytestmark = pytest.mark.triton

OVERLAY = "overlays/cpu"


def config() -> dict[str, dict[str, str]]:
    """The ConfigMaps, by name."""
    return {manifest["metadata"]["name"]: manifest["data"] for manifest in render(OVERLAY) if "data" in manifest}


@pytest.fixture(scope="module")
def volumes(machine: Machine) -> dict[str, Path]:
    """The pod's volumes that are no temporary ones, filled as a cluster would; the claim by an export."""
    (pod,) = pods(OVERLAY)
    found = {}
    for volume in pod["volumes"]:
        path = machine.volume(f"pod-{volume['name']}")
        if "projected" in volume:
            for source in volume["projected"]["sources"]:
                for name, text in config()[source["configMap"]["name"]].items():
                    (path / name).write_text(text)
            found[volume["name"]] = path
        elif "persistentVolumeClaim" in volume:
            repository = expanded(named(containers(OVERLAY)["triton"])["PE_REPOSITORY"], variables("triton"))
            shutil.copytree(ROOT / "model_repository", path / "models" / Path(repository).name)
            found[volume["name"]] = path
    return found


def variables(name: str) -> dict[str, str]:
    """A container's environment."""
    container = containers(OVERLAY)[name]
    known: dict[str, str] = {}
    for source in container.get("envFrom", []):
        known |= config().get(source.get("configMapRef", {}).get("name", ""), {})
    for variable, value in named(container).items():
        known[variable] = expanded(value, known)
    return known


def start(machine: Machine, name: str, image: Image, volumes: Mapping[str, Path]) -> Container:
    container = containers(OVERLAY)[name]
    mounted, temporary = [], []
    for mount in container["volumeMounts"]:
        if mount["name"] in volumes:
            source = volumes[mount["name"]] / mount.get("subPath", "")
            mounted.append(f"{source}:{mount['mountPath']}{':ro' if mount.get('readOnly') else ''}")
        else:
            temporary.append(mount["mountPath"])
    context = container["securityContext"]
    return machine.start(
        f"pod-{name}",
        image,
        [*image.entrypoint, *container.get("args", [])],
        variables(name) | {"PE_DRAIN_SECONDS": "3"},  # of 15, for the test's sake
        user=f"{context['runAsUser']}:{context['runAsGroup']}",
        volumes=mounted,
        tmpfs=temporary,
    )


def probe(container: dict[str, Any], kind: str) -> list[str]:
    """A command that asks what the kubelet would."""
    probe = container[kind]
    if "exec" in probe:
        return list(probe["exec"]["command"])
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    request = probe["httpGet"]
    return ["curl", "--fail", "--silent", f"http://127.0.0.1:{ports[request['port']]}{request['path']}"]


@pytest.fixture(scope="module")
def pod(
    machine: Machine, gateway_image: Image, triton_image: Image, volumes: dict[str, Path]
) -> Iterator[dict[str, Container]]:
    running: dict[str, Container] = {}
    for name, image in (("triton", triton_image), ("gateway", gateway_image)):
        running[name] = start(machine, name, image, volumes)
        machine.wait_until_healthy(running[name], probe(containers(OVERLAY)[name], "startupProbe"))
    yield running
    for container in reversed(running.values()):
        container.stop(60)


def test_is_ready_and_answers(machine: Machine, pod: dict[str, Container]) -> None:
    for name, container in pod.items():
        for kind in ("readinessProbe", "livenessProbe"):
            machine.wait_until_healthy(container, probe(containers(OVERLAY)[name], kind))
    (printed,) = (json.loads(text) for kind, text in BLOCKS if kind == "json")
    answer = json.loads(machine.run(CURL).stdout)
    assert answer["similarity"] == pytest.approx(printed["similarity"], abs=2e-4)


def test_triton_listens_on_loopback_alone_but_for_metrics(machine: Machine, pod: dict[str, Container]) -> None:
    table = [line.split() for line in machine.run("cat /proc/net/tcp /proc/net/tcp6").stdout.splitlines()]
    # Hexadecimal addresses, of which the last four bytes tell loopback from any, within IPv6 as well.
    places = {tuple(row[1].rsplit(":")) for row in table if row[3] == "0A"}
    listening = {(address[-8:], int(port, 16)) for address, port in places}
    loopback, anywhere = "0100007F", "00000000"
    assert {(loopback, 8000), (loopback, 8001), (anywhere, 8002), (anywhere, 9001)} <= listening
    assert not {(anywhere, 8000), (anywhere, 8001)} & listening


def test_the_gateway_ends_while_triton_still_serves(machine: Machine, pod: dict[str, Container]) -> None:
    """As a kubelet ends a pod with a sidecar. What still comes is answered meanwhile, though no longer asked for."""
    pod["gateway"].process.terminate()
    end = time.monotonic() + 10
    not_ready = f"! {shlex.join(probe(containers(OVERLAY)['gateway'], 'readinessProbe'))}"
    while machine.run(not_ready).returncode != 0:
        assert time.monotonic() < end, "still ready"
    assert "similarity" in machine.run(CURL).stdout
    assert pod["gateway"].process.wait(60) in (0, -signal.SIGTERM)
    assert machine.run(shlex.join(probe(containers(OVERLAY)["triton"], "readinessProbe"))).returncode == 0
    assert pod["triton"].stop(60) == 0
