"""The gateway's image, built by its Dockerfile, and the CPU profile of deploy/compose.yaml, served by it and a real
Triton as that file says: same commands, variables, users, mounts and order. Stands in for `docker compose up`, which
needs an engine; machine.py tells the difference.
"""

import json
import re
import shlex
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.deploy import compose_file
from tests.deploy.images.dockerfile import ROOT
from tests.deploy.images.machine import Container, Image, Machine
from tests.deploy.images.services import seconds, start
from tests.tools import find_tool

pytestmark = pytest.mark.triton

README = (ROOT / "README.md").read_text()
PAGE = (ROOT / "deploy/README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
(CURL,) = (text for kind, text in BLOCKS if kind == "bash" and "curl -s http://127.0.0.1:9001/perception" in text)
SERVICES = compose_file.load({**compose_file.defaults(), "COMPOSE_PROFILES": "cpu"})["services"]


@pytest.fixture(scope="module")
def stack(machine: Machine, gateway_image: Image, triton_image: Image) -> Iterator[dict[str, Container]]:
    """Each started when what it depends on is healthy, by the check that the file or the image states."""
    images = {"triton-cpu": triton_image, "gateway": gateway_image}
    running: dict[str, Container] = {}
    for name in [name for name in SERVICES if name in images]:
        assert {needed for needed in SERVICES[name].get("depends_on", {}) if needed in images} <= set(running)
        running[name] = start(machine, name, SERVICES[name], images[name])
        check = SERVICES[name].get("healthcheck", {}).get("test", ["CMD", *images[name].healthcheck])
        assert check[0] == "CMD"
        machine.wait_until_healthy(running[name], check[1:])
    yield running
    for name in reversed(running):
        running[name].stop(seconds(SERVICES[name]["stop_grace_period"]))


def test_the_image_holds_what_serves_and_nothing_that_builds(
    machine: Machine, gateway_image: Image, project_version: str
) -> None:
    container = machine.start(
        "inside",
        gateway_image,
        [
            *("sh", "-c"),
            "id -u; ls /opt /opt/gateway/bin; python -m pip --version; touch /opt/x /tmp/x; "
            "grep -E 'CapEff|NoNewPrivs' /proc/self/status; "
            "python -c 'from gateway.http.health import gateway_version as v; print(\"version\", v())'",
        ],
        {},
        tmpfs=["/tmp"],
    )
    container.process.wait(60)
    said = container.output()
    assert said.startswith("10001\n")
    assert "pe-gateway\n" in said
    assert "No module named pip" in said
    assert "cannot touch '/opt/x': Read-only file system" in said
    assert "/tmp/x" not in said
    assert re.search(r"CapEff:\t0{16}\nNoNewPrivs:\t1", said)
    assert f"version {project_version}\n" in said
    for absent in ("pe-serve", "pe-export", "build\n", "pip3"):
        assert absent not in said, absent


def test_readmes_curl_gets_readmes_answer(machine: Machine, stack: dict[str, Container]) -> None:
    (printed,) = (json.loads(text) for kind, text in BLOCKS if kind == "json")
    answer: dict[str, Any] = json.loads(machine.run(CURL).stdout)
    assert answer["similarity"] == pytest.approx(printed["similarity"], abs=2e-4)


@pytest.mark.parametrize("command", re.findall(r"^curl .*:9001/.*$", PAGE, re.MULTILINE))
def test_the_pages_questions_are_answered(machine: Machine, stack: dict[str, Container], command: str) -> None:
    run = machine.run(command)
    assert run.returncode == 0
    assert {"status", "models"} & set(json.loads(run.stdout))


def test_triton_does_what_the_start_script_asks_for(machine: Machine, stack: dict[str, Container]) -> None:
    log = stack["triton-cpu"].output()
    for option in ("model_control_mode", "MODE_NONE"), ("strict_readiness", "1"), ("cache_enabled", "1"):
        assert re.search(rf"\| {option[0]} +\| {option[1]} ", log), option
    assert "Started GRPCInferenceService at 0.0.0.0:8001" in log
    metrics = machine.run("curl -s http://triton:8002/metrics").stdout
    assert 'nv_inference_request_success{model="PE-Demo-T8-64-vision",version="1"}' in metrics


def test_the_autoscalers_queries_have_answers(machine: Machine, stack: dict[str, Container]) -> None:
    """As prometheus-adapter would ask them, of a real Prometheus, with labels as a cluster's scraping adds them."""
    tool = find_tool("prometheus")
    config = machine.directory / "prometheus.yaml"
    labels = {"namespace": "perception-encoder", "pod": "perception-encoder-0"}
    target = {"targets": ["triton:8002"], "labels": labels}
    scrape = {"job_name": "triton", "scrape_interval": "1s", "static_configs": [target]}
    config.write_text(json.dumps({"scrape_configs": [scrape]}))
    prometheus = machine.start(
        "prometheus",
        machine.image_with({}),
        [
            str(tool),
            *("--config.file=/etc/prometheus.yaml", "--storage.tsdb.path=/tmp/data"),
            "--web.listen-address=127.0.0.1:9090",
        ],
        {},
        user="65534:65534",
        volumes=[f"{config}:/etc/prometheus.yaml:ro"],
        tmpfs=["/tmp"],
    )
    rules = yaml.safe_load((ROOT / "deploy/kubernetes/components/autoscaling/prometheus-adapter.yaml").read_text())
    for rule in rules["rules"]["custom"]:
        query = rule["metricsQuery"].replace("<<.GroupBy>>", "pod")
        query = query.replace("<<.LabelMatchers>>", f'namespace="{labels["namespace"]}",pod=~"{labels["pod"]}"')
        ask = "curl -fs http://127.0.0.1:9090/api/v1/query --data-urlencode " + shlex.quote(f"query={query}")
        end = time.monotonic() + 60
        while not (found := (json.loads(machine.run(ask).stdout or "{}").get("data") or {}).get("result")):
            assert time.monotonic() < end, f"nothing for {query}\n{prometheus.output()}"
            machine.run(CURL)
            time.sleep(0.2)
        (series,) = found
        assert series["metric"] == {"pod": labels["pod"]}
        assert float(series["value"][1]) >= 0


def test_both_end_in_time_when_they_are_told_to(stack: dict[str, Container]) -> None:
    for name in ("gateway", "triton-cpu"):
        grace = seconds(SERVICES[name]["stop_grace_period"])
        assert stack[name].stop(grace) in (0, -15), stack[name].output()
