"""CPU seconds of real processes."""

import os
import subprocess
import sys
import time

import pytest
from prometheus_client import CollectorRegistry

from gateway.cpus import usable_cpus
from gateway.observe import cpu_metrics
from gateway.observe.cpu_metrics import CpuMetrics

pytestmark = pytest.mark.slow

BURN = "import time\nwhile time.process_time() < {seconds}: pass\n"
# A name with spaces and brackets, as /proc shows it.
RENAMED = "open('/proc/self/comm', 'w').write('a) b (c')\n"


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> CollectorRegistry:
    monkeypatch.setattr(cpu_metrics, "_SECONDS_BETWEEN_READINGS", 0.0)
    return CollectorRegistry()


def seconds(registry: CollectorRegistry, process: str) -> float:
    return registry.get_sample_value("pe_cpu_seconds_total", {"process": process}) or 0.0


def test_counts_living_and_ended_descendants(registry: CollectorRegistry) -> None:
    metrics = CpuMetrics(registry)
    metrics.update()
    before = seconds(registry, "decoder")
    grandchild = RENAMED + BURN.format(seconds=0.5) + "input()"
    child = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {grandchild!r}])"
    with subprocess.Popen([sys.executable, "-c", child], stdin=subprocess.PIPE) as process:
        end = time.monotonic() + 60
        while seconds(registry, "decoder") - before < 0.5:
            assert time.monotonic() < end, seconds(registry, "decoder")
            time.sleep(0.05)
            metrics.update()
        process.communicate(b"\n")
    living = seconds(registry, "decoder")
    metrics.update()
    assert living <= seconds(registry, "decoder") < living + 5, "what ended is counted once"


def test_counts_this_process(registry: CollectorRegistry) -> None:
    metrics = CpuMetrics(registry)
    metrics.update()
    before, start = seconds(registry, "server"), time.process_time()
    while time.process_time() - start < 0.2:
        os.urandom(1000)
    metrics.update()
    assert 0.2 <= seconds(registry, "server") - before <= time.process_time() - start + 0.2
    assert registry.get_sample_value("pe_workers") == 1
    assert registry.get_sample_value("pe_cpus") == usable_cpus()


def test_readings_are_far_apart(registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_metrics, "_SECONDS_BETWEEN_READINGS", 1000.0)
    metrics = CpuMetrics(registry)
    metrics.update()
    before = seconds(registry, "server")
    sum(range(1_000_000))
    metrics.update()
    assert seconds(registry, "server") == before
