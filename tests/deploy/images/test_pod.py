"""A pod of deploy/kubernetes, of the overlay for CPUs, on a real Docker engine as a kubelet would run it: environment,
mounts, users, confinement, probes and order are those of the rendered manifest. Both containers share a network.
"""

import json
import os
import shlex
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.deploy.images.dockerfile import ROOT
from tests.deploy.images.engine import Engine
from tests.deploy.images.test_cpu_profile import BLOCKS, CURL
from tests.deploy.test_kubernetes import containers, expanded, named, pods, render

pytestmark = pytest.mark.containers

OVERLAY: Final = "overlays/cpu"
DRAIN_S: Final = 3  # of 15, for the test's sake


def config() -> dict[str, dict[str, str]]:
    """The ConfigMaps, by name."""
    return {manifest["metadata"]["name"]: manifest["data"] for manifest in render(OVERLAY) if "data" in manifest}


def variables(name: str) -> dict[str, str]:
    """A container's environment."""
    container = containers(OVERLAY)[name]
    known: dict[str, str] = {}
    for source in container.get("envFrom", []):
        known |= config().get(source.get("configMapRef", {}).get("name", ""), {})
    for variable, value in named(container).items():
        known[variable] = expanded(value, known)
    return known


def probe(container: dict[str, Any], kind: str) -> list[str]:
    """A command that asks what the kubelet would."""
    probe = container[kind]
    if "exec" in probe:
        return list(probe["exec"]["command"])
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    request = probe["httpGet"]
    return ["curl", "--fail", "--silent", f"http://127.0.0.1:{ports[request['port']]}{request['path']}"]


class Pod:
    """The two containers, and volumes that are filled as a cluster would fill them; the claim by an export."""

    def __init__(self, engine: Engine, directory: Path, images: dict[str, str]) -> None:
        self._engine = engine
        self._directory = directory
        self._images = images
        (pod,) = pods(OVERLAY)
        self._security = pod["securityContext"]
        for volume in pod["volumes"]:
            path = directory / volume["name"]
            path.mkdir()
            for source in volume.get("projected", {}).get("sources", []):
                for name, text in config()[source["configMap"]["name"]].items():
                    (path / name).write_text(text)
            if "persistentVolumeClaim" in volume:
                repository = expanded(named(containers(OVERLAY)["triton"])["PE_REPOSITORY"], variables("triton"))
                shutil.copytree(ROOT / "model_repository", path / "models" / Path(repository).name)
        directory.chmod(0o755)

    def container(self, name: str) -> str:
        """A container's name in the engine."""
        return f"pe-test-pod-{name}"

    def start(self, name: str, network: str) -> None:
        """Start a container, and wait until its startup probe succeeds."""
        container = containers(OVERLAY)[name]
        context = container["securityContext"]
        assert self._security["seccompProfile"] == {"type": "RuntimeDefault"}  # the engine's own
        options = [f"--user={context['runAsUser']}:{context['runAsGroup']}", f"--network={network}"]
        options += [f"--group-add={self._security['fsGroup']}"]
        options += ["--read-only"] if context["readOnlyRootFilesystem"] else []
        options += [f"--cap-drop={capability}" for capability in context["capabilities"]["drop"]]
        options += ["--security-opt=no-new-privileges"] if not context["allowPrivilegeEscalation"] else []
        for mount in container["volumeMounts"]:
            source = self._directory / mount["name"] / mount.get("subPath", "")
            read_only = ":ro" if mount.get("readOnly") else ""
            empty = not os.listdir(source)
            options.append(
                f"--tmpfs={mount['mountPath']}" if empty else f"--volume={source}:{mount['mountPath']}{read_only}"
            )
        for variable, value in (variables(name) | {"PE_DRAIN_SECONDS": str(DRAIN_S)}).items():
            options.append(f"--env={variable}={value}")
        self._engine.run(
            *("run", "--detach", "--name", self.container(name), *options, self._images[name]),
            *container.get("args", []),
        )
        self.wait_for(name, "startupProbe")

    def wait_for(self, name: str, kind: str, limit: float = 90) -> None:
        """Wait until a probe succeeds."""
        end = time.monotonic() + limit
        while not self.succeeds(probe(containers(OVERLAY)[name], kind)):
            logs = self._engine.run("logs", self.container(name))
            assert time.monotonic() < end, f"{name} is not healthy:\n{logs.stdout[-3000:]}{logs.stderr[-3000:]}"
            time.sleep(0.2)

    def run(self, command: str) -> str:
        """What a shell prints within the pod. It is Triton's container, where curl is."""
        return self._engine.run("exec", self.container("triton"), "bash", "-c", command, check=False).stdout

    def succeeds(self, command: list[str]) -> bool:
        return "succeeded" in self.run(f"{shlex.join(command)} >/dev/null && echo succeeded")

    def terminate(self, name: str) -> None:
        self._engine.run("kill", "--signal=TERM", self.container(name))

    def exit_status(self, name: str) -> int:
        """Wait for a container's end."""
        return int(self._engine.out("wait", self.container(name)))

    def remove(self) -> None:
        for name in ("gateway", "triton"):
            self._engine.run("rm", "--force", "--volumes", self.container(name))


@pytest.fixture(scope="module")
def pod(
    engine: Engine, gateway_image: str, triton_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pod]:
    pod = Pod(engine, tmp_path_factory.mktemp("pod"), {"triton": triton_image, "gateway": gateway_image})
    pod.remove()  # what an interrupted run left
    pod.start("triton", "none")
    pod.start("gateway", f"container:{pod.container('triton')}")
    yield pod
    pod.remove()


def test_is_ready_and_answers(pod: Pod) -> None:
    for name in ("triton", "gateway"):
        for kind in ("readinessProbe", "livenessProbe"):
            pod.wait_for(name, kind)
    (printed,) = (json.loads(text) for kind, text in BLOCKS if kind == "json")
    answer = json.loads(pod.run(CURL))
    assert answer["similarity"] == pytest.approx(printed["similarity"], abs=2e-4)


def test_triton_listens_on_loopback_alone_but_for_metrics(pod: Pod) -> None:
    table = [line.split() for line in pod.run("cat /proc/net/tcp /proc/net/tcp6").splitlines()]
    # Hexadecimal addresses, of which the last four bytes tell loopback from any, within IPv6 as well.
    places = {tuple(row[1].rsplit(":")) for row in table if row[3] == "0A"}
    listening = {(address[-8:], int(port, 16)) for address, port in places}
    loopback, anywhere = "0100007F", "00000000"
    assert {(loopback, 8000), (loopback, 8001), (anywhere, 8002), (anywhere, 9001)} <= listening
    assert not {(anywhere, 8000), (anywhere, 8001)} & listening


def test_the_gateway_ends_while_triton_still_serves(pod: Pod) -> None:
    """As a kubelet ends a pod with a sidecar. What still comes is answered meanwhile, though no longer asked for."""
    pod.terminate("gateway")
    end = time.monotonic() + 10
    while pod.succeeds(probe(containers(OVERLAY)["gateway"], "readinessProbe")):
        assert time.monotonic() < end, "still ready"
    assert "similarity" in pod.run(CURL)
    assert pod.exit_status("gateway") == 0
    assert pod.succeeds(probe(containers(OVERLAY)["triton"], "readinessProbe"))
    pod.terminate("triton")
    assert pod.exit_status("triton") == 0
