import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

from deploy.monitoring.dashboard import FILE
from gateway.observe.decode_metrics import DecodeMetrics
from gateway.observe.metrics import Metrics
from gateway.observe.triton_metrics import TritonMetrics
from gateway.texts.cache import TextCache

pytestmark = pytest.mark.slow

FOLDER = FILE.parents[1]
ALERTS = [rule for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]


def promtool(tool: dict[str, Path], *arguments: str | Path) -> str:
    run = subprocess.run([tool["promtool"], *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_prometheus_reads_its_configuration(tool: dict[str, Path]) -> None:
    said = promtool(tool, "check", "config", "prometheus.yaml")
    assert f"{len(ALERTS)} rules found" in said


def test_each_alert_fires_when_it_should_and_not_otherwise(tool: dict[str, Path]) -> None:
    promtool(tool, "test", "rules", "alerts_test.yaml")
    tested = (FOLDER / "alerts_test.yaml").read_text()
    for alert in ALERTS:
        assert f'alertname="{alert["alert"]}"' in tested, alert["alert"]


def test_those_tests_would_notice_alerts_that_never_fire(tool: dict[str, Path], tmp_path: Path) -> None:
    shutil.copy(FOLDER / "alerts_test.yaml", tmp_path)
    rules = yaml.safe_load((FOLDER / "alerts.yaml").read_text())
    for rule in rules["groups"][0]["rules"]:
        rule["expr"] = "vector(0) > 1"
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(rules))
    command = [str(tool["promtool"]), "test", "rules", str(tmp_path / "alerts_test.yaml")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode != 0
    for alert in ALERTS:
        assert f'alertname="{alert["alert"]}"' in run.stdout + run.stderr


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: str(alert["alert"]))
def test_each_alert_says_what_happened_and_what_to_do(alert: dict[str, dict[str, str]]) -> None:
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert len(alert["annotations"]["summary"]) > 10
    assert len(alert["annotations"]["runbook"]) > 60
    assert alert["for"]


def test_the_gateways_metrics_are_those_that_are_shown() -> None:
    registry = CollectorRegistry()
    TritonMetrics(registry)
    DecodeMetrics(registry)
    exposition = Metrics(TextCache(0), registry).exposition().decode()
    exposed = set(re.findall(r"^# TYPE (pe_\w+) ", exposition, re.MULTILINE))
    exposed = {name for name in exposed if not name.endswith("_created")}
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\bpe_\w+", FILE.read_text())}
    assert len(shown) >= 6
    assert shown == exposed
    assert set(re.findall(r"\bpe_\w+(?<!_bucket)\b", (FOLDER / "alerts.yaml").read_text())) <= exposed


def test_dcgms_exporter_counts_what_is_shown_and_no_more() -> None:
    lines = (FOLDER / "dcgm-counters.csv").read_text().splitlines()
    counters = [[field.strip() for field in line.split(",")] for line in lines if not line.startswith("#")]
    assert {len(fields) for fields in counters} == {3}, "the exporter refuses any other number of fields"
    assert {kind for _, kind, _ in counters} == {"counter", "gauge"}
    names = [name for name, _, _ in counters]
    used = re.findall(r"\bDCGM_\w+", FILE.read_text() + (FOLDER / "alerts.yaml").read_text())
    assert len(names) == len(set(names)) > 6
    assert set(names) == set(used)
    assert not any(name.startswith("DCGM_FI_PROF_") for name in names), "profiling needs CAP_SYS_ADMIN"
