"""The dashboard is what its table says, and each of its queries returns what the real stack exposes."""

import asyncio
import json
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from deploy.bench.harness import stack
from deploy.monitoring import dashboard
from tests.deploy.monitoring import stand_ins
from tests.pictures import PHOTOGRAPHS, base64_image, flat
from tests.running import free_port

FOLDER = dashboard.FILE.parents[1]
ROOT = FOLDER.parents[1]
PANELS = [panel for row in dashboard.ROWS.values() for panel in row]
QUERIES = [(panel, expr) for panel in PANELS for expr in panel.queries.values()]
TEXT, IMAGE = "/perception_encoder/embed_text", "/perception_encoder/embed_image"


def test_the_file_is_what_the_table_says() -> None:
    command = [sys.executable, str(FOLDER / "dashboard.py"), "--check"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_stale_file_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(dashboard, "FILE", tmp_path / "dashboard.json")
    assert dashboard.main(["--check"]) == 1
    assert dashboard.main([]) == 0
    assert dashboard.main(["--check"]) == 0
    (tmp_path / "dashboard.json").write_text("{}\n")
    assert dashboard.main(["--check"]) == 1


def test_panels_have_places_of_their_own() -> None:
    panels = json.loads(dashboard.FILE.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) == len(PANELS) + len(dashboard.ROWS)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + i, place["y"] + j) for i in range(place["w"]) for j in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_grafana_finds_its_source_and_the_dashboard() -> None:
    (source,) = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    scraped = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scraped
    (provider,) = yaml.safe_load((FOLDER / "grafana/provisioning/dashboards/dashboards.yaml").read_text())["providers"]
    assert provider["type"] == "file"


CPU_RATE = "sum by (process) (rate(pe_cpu_seconds_total[$__rate_interval]))"


class Prometheus:
    """A real one, with the committed configuration, but for addresses and intervals."""

    at = 0.0  # seconds since 1970

    def __init__(self, program: Path, folder: Path, targets: dict[str, list[str]]) -> None:
        config = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
        config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(FOLDER / name) for name in config["rule_files"]]
        for job in config["scrape_configs"]:
            assert len(found := [job.pop(way) for way in ("dns_sd_configs", "file_sd_configs") if way in job]) == 1, (
                found
            )
            job["static_configs"] = [{"targets": targets.get(job["job_name"], [])}]
        config["scrape_configs"].append(
            {"job_name": "kubelet", "static_configs": [{"targets": targets.get("kubelet", [])}]}
        )
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        self._url = f"http://127.0.0.1:{(port := free_port())}"
        self._log = (folder / "prometheus.log").open("wb")
        self._process = subprocess.Popen(
            [program, f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}",
             f"--web.listen-address=127.0.0.1:{port}"],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
        )  # fmt: skip
        end = time.monotonic() + 20
        while True:
            assert self._process.poll() is None, (folder / "prometheus.log").read_text()
            assert time.monotonic() < end
            try:
                urllib.request.urlopen(f"{self._url}/-/ready", timeout=1).close()
            except OSError:
                time.sleep(0.1)
            else:
                break

    def query(self, expr: str) -> Any:
        """Samples as of the end of the traffic, over seconds."""
        return self.ask("query", query=expr.replace("$__rate_interval", "8s"), time=str(self.at))["result"]

    def ask(self, path: str, **parameters: str) -> Any:
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{parameters}: {error.read().decode()}") from None

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)
        self._log.close()


@contextmanager
def running(program: Path, folder: Path, targets: dict[str, list[str]]) -> Iterator[Prometheus]:
    prometheus = Prometheus(program, folder, targets)
    try:
        yield prometheus
    finally:
        prometheus.stop()


@contextmanager
def node_exporter(program: Path, folder: Path) -> Iterator[str]:
    """A real one, of this machine; its address."""
    address = f"127.0.0.1:{free_port()}"
    with (folder / "node-exporter.log").open("wb") as log:
        process = subprocess.Popen(
            [program, f"--web.listen-address={address}"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        yield address
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def prometheus(tool: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """It has watched the real stack answer, refuse and fail for some seconds, and the machine."""
    folder = tmp_path_factory.mktemp("monitored")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PE_MAX_IN_FLIGHT", "4")
        patch.setenv("PE_MAX_BODY_BYTES", "1000000")
        with (
            stack.start(ROOT / "model_repository", folder, None) as served,
            node_exporter(tool["prometheus-node-exporter"], folder) as node,
            stand_ins.serving(FOLDER / "dcgm-counters.csv") as (dcgm, kubelet),
            running(
                tool["prometheus"],
                folder,
                {
                    "gateway": [served.url.removeprefix("http://")],
                    "triton": [served.triton_metrics],
                    "node": [node],
                    "dcgm": [dcgm],
                    "kubelet": [kubelet],
                },
            ) as prometheus,
        ):
            asyncio.run(traffic(served.url, 9))
            prometheus.at = time.time()
            # The gateway reads its CPU time every five seconds, and later on a busy machine. A rate needs two readings.
            end = time.monotonic() + 60
            while any(float(sample["value"][1]) == 0 for sample in prometheus.query(CPU_RATE)):
                assert time.monotonic() < end
                asyncio.run(traffic(served.url, 1))
                prometheus.at = time.time()
            yield prometheus


async def traffic(url: str, seconds: float) -> None:
    image = {"image": base64_image(PHOTOGRAPHS[0].read_bytes())}
    many = {"image": [base64_image(flat((0, 99, 0)))] * 64}
    requests: list[tuple[str, dict[str, Any]]] = [
        (IMAGE, image),
        (TEXT, {"text": "a prompt that repeats"}),
        (TEXT, {"text": ["one", "two"]}),
        ("/perception_encoder/compare", {"subject": image["image"], "prompt": ["a red circle"]}),
        ("/v1/embeddings", {"input": "a text"}),
        (IMAGE, {"image": {"type": "base64", "value": "AAAA"}}),  # 400
        (TEXT, {"text": "x" * 1_000_000}),  # 413
    ]
    seen: set[int] = set()
    end = time.monotonic() + seconds
    async with httpx2.AsyncClient(base_url=url, timeout=30) as client:
        while time.monotonic() < end:
            answers = [await client.post(path, json=body) for path, body in requests]
            # More at once than is allowed, and each long enough to be met by the others: 429.
            answers += await asyncio.gather(*(client.post(IMAGE, json=many) for _ in range(12)))
            seen |= {answer.status_code for answer in answers}
            await asyncio.sleep(0.1)
    assert seen == {200, 400, 413, 429}


@pytest.mark.triton
@pytest.mark.parametrize(("panel", "expr"), QUERIES, ids=[f"{panel.title}-{expr[:20]}" for panel, expr in QUERIES])
def test_every_query_returns_what_the_stack_exposes(prometheus: Prometheus, panel: dashboard.Panel, expr: str) -> None:
    samples = prometheus.query(expr)
    if panel.needs_gpu:
        assert samples == []  # this Triton sees none; that the query can be parsed is all there is to test
        return
    assert samples, "no data"
    values = [float(sample["value"][1]) for sample in samples]
    assert any(value == value for value in values), "nothing but NaN"
    assert all(value >= 0 for value in values if value == value)


@pytest.mark.triton
def test_legends_name_labels_that_are_there(prometheus: Prometheus) -> None:
    for panel in PANELS:
        for legend, expr in panel.queries.items():
            names = {part.split("}}")[0] for part in legend.split("{{")[1:]}
            for sample in prometheus.query(expr):
                assert names <= set(sample["metric"]), panel.title


@pytest.mark.triton
def test_what_alerts_ask_for_is_exposed(prometheus: Prometheus) -> None:
    names = set(re.findall(r"\b(?:pe|nv|node|kubelet|DCGM)_[a-zA-Z_]+", (FOLDER / "alerts.yaml").read_text()))
    assert {"pe_cpus", "nv_inference_count", "node_filesystem_readonly"} <= names
    missing = {name for name in names if not prometheus.query(name)}
    assert missing == {name for name in names if name.startswith("nv_gpu_")}


@pytest.mark.triton
def test_it_shows_what_happened(prometheus: Prometheus) -> None:
    def value(title: str, **labels: str) -> float:
        (panel,) = (panel for panel in PANELS if panel.title == title)
        (expr, *_) = panel.queries.values()
        samples = prometheus.query(expr)
        (sample,) = (sample for sample in samples if labels.items() <= sample["metric"].items())
        return float(sample["value"][1])

    assert value("Gateways") == value("Tritons") == 1
    assert value("Failed") == 0
    assert 1 < value("Mean batch", model="PE-Demo-T8-64-vision") <= 64
    assert value("Texts found in the cache") > 0.9
    assert value("Refused or cancelled", reason="Overloaded") > 0
    assert value("Refused or cancelled", reason="PayloadTooLarge") > 0
    assert value("Answers by status", status="400") > 0
    assert value("Errors by kind", error="InvalidImage") > 0
    assert value("Errors by kind", error="Overloaded") == value("Refused or cancelled", reason="Overloaded")
    assert 1 < value("Items in one call to Triton", tower="vision") <= 8
    assert value("Images by Triton") == pytest.approx(value("Images"))
    assert value("Tritons that each gateway uses") == 1
    assert value("Calls to Triton by result", result="Ok") > 0
    assert value("Calls retried") == 0
    assert value("CPUs in use", process="server") > 0
    assert value("CPUs in use", process="decoder") > 0
    assert 0 < value("CPU") <= 1
    assert value("Memory of all programs", gpu="1") == 50 * 2**20
    assert 0 < value("Throttling", gpu="0") < 1
    assert value("Free on volumes") == 0.6
    assert 0 < value("p99 time in the queue", model="PE-Demo-T8-64-vision") < 30


@pytest.mark.triton
def test_the_rules_run_and_none_is_wrong(prometheus: Prometheus) -> None:
    (group,) = prometheus.ask("rules")["groups"]
    assert {rule["health"] for rule in group["rules"]} == {"ok"}
    active = {rule["name"] for rule in group["rules"] if rule["state"] != "inactive"}
    assert "Refusing" in active
    # On a busy machine it may well be slow and saturated, and late for a scrape.
    assert active <= {
        *("Refusing", "Slow", "Saturated", "GatewayDown", "TritonDown"),
        *("GatewayCpuFull", "MachineCpuFull", "DiskFull", "ExporterDown"),
        *("GpuBroken", "GpuXid"),  # which the stand-in has
    }
