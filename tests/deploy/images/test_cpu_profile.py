"""The CPU profile of deploy/compose.yaml on a real Docker engine: the gateway's image built by its Dockerfile, and
Compose's own commands.

The gateway's base, Triton's image and Prometheus's image are stand-ins (`stand_ins/`): Triton is the embedded one.
Grafana is left out.
"""

import json
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import numpy as np
import pytest
import yaml

from tests.deploy import compose_file
from tests.deploy.compose_file import seconds
from tests.deploy.images.compose_project import ComposeProject
from tests.deploy.images.dockerfile import ROOT

pytestmark = pytest.mark.containers

README: Final = (ROOT / "README.md").read_text()
PAGE: Final = (ROOT / "deploy/README.md").read_text()
BLOCKS: Final = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
(CURL,) = (text for kind, text in BLOCKS if kind == "bash" and "curl -s http://127.0.0.1:9001/perception" in text)
SERVICES: Final = compose_file.load({**compose_file.defaults(), "COMPOSE_PROFILES": "cpu"})["services"]
PICTURE: Final = (ROOT / "gateway/http/page/static/samples/red-circle.jpg").read_bytes()
# User and group of each service's process.
USERS: Final = {"gateway": (10001, 10001), "triton-cpu": (1000, 1000), "prometheus": (65534, 65534)}


@pytest.fixture(scope="module")
def stack(
    compose_project: Callable[..., ComposeProject], gateway_image: str, triton_image: str, prometheus_image: str
) -> Iterator[ComposeProject]:
    project = compose_project("cpu")
    project.clear()  # what an interrupted run left
    project.run("up", "--detach", "--wait", "--no-build", "--pull", "never", seconds=300)
    yield project
    project.clear()


def ask(project: ComposeProject, command: str) -> str:
    """Run a documented command against the port of this project."""
    here = command.replace("http://127.0.0.1:9001/", f"{project.url}/")
    run = subprocess.run(["bash", "-c", here], capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 0, run.stderr
    return run.stdout


def compare(project: ComposeProject) -> dict[str, Any]:
    return dict(json.loads(ask(project, CURL)))


def wait_until(condition: Callable[[], bool], limit: float = 60) -> None:
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def status(project: ComposeProject, path: str = "/readiness") -> int:
    """The status of a GET; 0 if there is no answer."""
    try:
        return httpx2.get(f"{project.url}{path}", timeout=10).status_code
    except httpx2.TransportError:
        return 0


def test_only_the_gateway_and_prometheus_are_published(stack: ComposeProject) -> None:
    published = {}
    for name in USERS:
        ports = stack.inspect(name)["NetworkSettings"]["Ports"] or {}
        published[name] = {port: bound for port, bound in ports.items() if bound}
    assert {name: list(ports) for name, ports in published.items() if ports} == {
        "gateway": ["9001/tcp"],
        "prometheus": ["9090/tcp"],
    }


def test_readmes_curl_gets_readmes_answer(stack: ComposeProject) -> None:
    (printed,) = (json.loads(text) for kind, text in BLOCKS if kind == "json")
    assert compare(stack)["similarity"] == pytest.approx(printed["similarity"], abs=2e-4)


def test_an_image_and_texts_are_embedded(stack: ComposeProject) -> None:
    image = httpx2.post(
        f"{stack.url}/perception_encoder/embed_image", content=PICTURE, headers={"Content-Type": "image/jpeg"}
    )
    texts = httpx2.post(
        f"{stack.url}/perception_encoder/embed_text", json={"text": ["a red circle", "a blue square", "a green heart"]}
    )
    vector = np.array(image.json()["embeddings"])
    labels = np.array(texts.json()["embeddings"])
    np.testing.assert_allclose(np.linalg.norm(vector), 1, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(labels, axis=1), 1, rtol=1e-5)
    assert int(np.argmax(vector @ labels.T)) == 0


@pytest.mark.parametrize("command", re.findall(r"^curl .*:9001/.*$", PAGE, re.MULTILINE))
def test_the_pages_questions_are_answered(stack: ComposeProject, command: str) -> None:
    assert {"status", "models"} & set(json.loads(ask(stack, command)))


def test_triton_does_what_the_start_script_asks_for(stack: ComposeProject) -> None:
    log = stack.log("triton-cpu")
    for option in ("model_control_mode", "MODE_NONE"), ("strict_readiness", "1"), ("cache_enabled", "1"):
        assert re.search(rf"\| {option[0]} +\| {option[1]} ", log), option
    assert "Started GRPCInferenceService at 0.0.0.0:8001" in log


@pytest.mark.parametrize("service", USERS)
def test_a_process_may_do_no_more_than_it_must(stack: ComposeProject, service: str) -> None:
    """As the process itself sees it, and not only as the engine was told."""
    facts = stack.inside(
        service,
        "cat /proc/1/status; grep ' / ' /proc/mounts; touch /tmp/x && echo tmp is writable;"
        "for place in / /etc /opt /var; do touch $place/x && echo written; done; true",
    )
    user, group = USERS[service]
    assert re.search(rf"^Uid:\t{user}\t{user}\t{user}\t{user}$", facts, re.M)
    assert re.search(rf"^Gid:\t{group}\t{group}\t{group}\t{group}$", facts, re.M)
    for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb"):
        assert re.search(rf"^Cap{kind}:\t0{{16}}$", facts, re.M), facts
    assert re.search(r"^NoNewPrivs:\t1$", facts, re.M)
    assert re.search(r"^Seccomp:\t2$", facts, re.M), "Docker's default profile filters system calls"
    assert re.search(r"^overlay / overlay ro,", facts, re.M)
    assert "written" not in facts
    if "/tmp" in SERVICES[service].get("tmpfs", []):
        assert "tmp is writable" in facts


def test_there_is_no_way_from_triton_to_the_outside(stack: ComposeProject) -> None:
    """A network that is internal has no gateway, so no default route."""
    destinations = [line.split()[1] for line in stack.inside("triton-cpu", "cat /proc/net/route").splitlines()[1:]]
    assert destinations
    assert "00000000" not in destinations
    assert "00000000" in stack.inside("gateway", "cat /proc/net/route")


def test_triton_only_reads_the_models(stack: ComposeProject) -> None:
    said = stack.inside("triton-cpu", "touch /repository/x 2>&1; ls /repository")
    assert "Read-only file system" in said
    assert "PE-Demo-T8-64-vision" in said


def test_prometheus_finds_both_by_name(stack: ComposeProject) -> None:
    url = f"http://127.0.0.1:{stack.prometheus_port}/api/v1/targets"

    def jobs_that_are_up() -> set[str]:
        targets = httpx2.get(url, timeout=10).json()["data"]["activeTargets"]
        return {target["labels"]["job"] for target in targets if target["health"] == "up"}

    wait_until(lambda: jobs_that_are_up() == {"gateway", "triton"})


def test_the_autoscalers_queries_have_answers(stack: ComposeProject, tmp_path: Path) -> None:
    """As prometheus-adapter would ask them, of a real Prometheus, with labels as a cluster's scraping adds them."""
    labels = {"namespace": "perception-encoder", "pod": "perception-encoder-0"}
    target = {"targets": ["triton:8002"], "labels": labels}
    scrape = {"job_name": "triton", "scrape_interval": "1s", "static_configs": [target]}
    config = tmp_path / "prometheus.yaml"
    config.write_text(json.dumps({"scrape_configs": [scrape]}))
    name = "pe-test-autoscaler"
    stack.engine.run("rm", "--force", name)
    stack.engine.run(
        *("run", "--detach", "--name", name, "--network", "pe-test_inside"),
        *("--volume", f"{config}:/etc/prometheus.yaml:ro", "pe-test/prometheus"),
        *("--config.file=/etc/prometheus.yaml", "--storage.tsdb.path=/prometheus"),
    )
    try:
        rules = yaml.safe_load((ROOT / "deploy/kubernetes/components/autoscaling/prometheus-adapter.yaml").read_text())
        for rule in rules["rules"]["custom"]:
            query = rule["metricsQuery"].replace("<<.GroupBy>>", "pod")
            query = query.replace("<<.LabelMatchers>>", f'namespace="{labels["namespace"]}",pod=~"{labels["pod"]}"')
            words = ["curl", "-s", "http://127.0.0.1:9090/api/v1/query", "--data-urlencode", f"query={query}"]
            found: list[Any] = []
            end = time.monotonic() + 60
            while not found:
                assert time.monotonic() < end, f"nothing for {query}"
                compare(stack)
                said = stack.engine.run("exec", name, *words, check=False).stdout
                found = (json.loads(said or "{}").get("data") or {}).get("result") or []
            (series,) = found
            assert series["metric"] == {"pod": labels["pod"]}
            assert float(series["value"][1]) >= 0
    finally:
        stack.engine.run("rm", "--force", name)


def test_without_a_profile_nothing_is_taken_down_by_half(stack: ComposeProject) -> None:
    """Without it, `down` would leave Triton running, and say that all is well."""
    down = ("compose", "--project-name", "pe-test", "-f", ROOT / "deploy/compose.yaml", "down")
    run = stack.engine.run(*down, check=False, COMPOSE_PROFILES="")
    assert run.returncode != 0
    assert "copy deploy/.env.example to deploy/.env" in run.stderr
    assert status(stack) == 200


def test_the_gateway_recovers_from_a_triton_that_was_killed_and_made_anew(stack: ComposeProject) -> None:
    gateway = stack.inspect("gateway")
    stack.run("kill", "--signal", "KILL", "triton-cpu")
    wait_until(lambda: status(stack) == 503)
    answer = httpx2.post(f"{stack.url}/perception_encoder/embed_text", json={"text": ["not said before"]}, timeout=60)
    assert answer.status_code == 503
    assert status(stack, "/healthz") == 200
    stack.run("rm", "--force", "triton-cpu")
    stack.run("up", "--detach", "--wait", "--no-build", "--pull", "never", "triton-cpu", seconds=120)
    wait_until(lambda: status(stack) == 200)
    assert compare(stack)["similarity"]
    after = stack.inspect("gateway")
    assert (after["Id"], after["RestartCount"]) == (gateway["Id"], 0)


class SlowUpload:
    """A request that the gateway has accepted, and whose body is not complete."""

    def __init__(self, project: ComposeProject) -> None:
        self._socket = socket.create_connection(("127.0.0.1", project.port), timeout=60)
        self._rest = PICTURE[100:]
        self._socket.sendall(
            b"POST /perception_encoder/embed_image HTTP/1.1\r\nHost: gateway\r\nContent-Type: image/jpeg\r\n"
            b"Expect: 100-continue\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(PICTURE)
        )
        # It says so when it has accepted the request.
        assert self._socket.recv(1_000).startswith(b"HTTP/1.1 100 ")
        self._socket.sendall(PICTURE[:100])

    def finish(self) -> bytes:
        self._socket.sendall(self._rest)
        received = b""
        while chunk := self._socket.recv(65_536):
            received += chunk
        self._socket.close()
        return received


def test_a_gateway_that_is_told_to_stop_loses_no_request(stack: ComposeProject) -> None:
    uploads = [SlowUpload(stack) for _ in range(8)]
    stop = threading.Thread(target=stack.run, args=("stop", "gateway"))
    stop.start()
    wait_until(lambda: status(stack) != 200)
    answers = [upload.finish() for upload in uploads]
    stop.join()
    for answer in answers:
        assert answer.startswith(b"HTTP/1.1 200 "), answer[:200]
        assert b'"embeddings"' in answer
    state = stack.inspect("gateway")["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 0)


def test_all_of_it_ends_in_time_and_volumes_stay(stack: ComposeProject) -> None:
    """Without its last request the gateway ends at once, so nothing comes near to its grace period."""
    stack.run("start", "gateway")
    wait_until(lambda: status(stack) == 200)
    started = time.monotonic()
    stack.run("down", seconds=180)
    assert time.monotonic() - started < seconds(SERVICES["triton-cpu"]["stop_grace_period"])
    assert stack.run("ps", "--all", "--quiet").stdout == ""
    assert "pe-test_inside" not in stack.engine.out("network", "ls", "--format", "{{.Name}}")
    assert "pe-test_prometheus" in stack.engine.out("volume", "ls", "--format", "{{.Name}}")
