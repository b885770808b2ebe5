import base64
import json
import os
from pathlib import Path

import numpy as np
import pytest

from deploy.bench.speed import perf_analyzer

# What it writes with --verbose-csv, in microseconds.
CLOSED = """\
Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,\
Server Compute Infer,Server Compute Output,Client Recv,p50 latency,p90 latency,p95 latency,p99 latency,Avg latency
8,1057.23,63,500,3042,49,3365,319,10,7341,9000,10263,12022,7500
"""


def test_reads_a_report() -> None:
    read = perf_analyzer.parse(CLOSED)
    assert read["items_per_s"] == 1057.23
    assert read["ms"] == {"p50": 7.341, "p95": 10.263, "p99": 12.022}
    assert read["server_ms"]["server_compute_infer"] == 3.365


def test_an_open_loop_differs_in_its_first_column_only() -> None:
    assert perf_analyzer.parse(CLOSED.replace("Concurrency", "Request Rate"))["items_per_s"] == 1057.23


@pytest.mark.parametrize("text", ["", "Concurrency,Inferences/Second\n", "nonsense\n1\n"])
def test_a_report_of_nothing_is_an_error(text: str) -> None:
    with pytest.raises(perf_analyzer.PerfAnalyzerFailed):
        perf_analyzer.parse(text)


def test_tensors_go_as_raw_bytes_with_their_shape(tmp_path: Path) -> None:
    tensors = [np.arange(6, dtype=np.int32), np.zeros(6, np.int32)]
    entries = json.loads(perf_analyzer.input_data("tokens", tensors, tmp_path / "data.json").read_text())["data"]
    assert [entry["tokens"]["shape"] for entry in entries] == [[6], [6]]
    assert base64.b64decode(entries[0]["tokens"]["content"]["b64"]) == tensors[0].tobytes()


def test_one_on_the_path_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "perf_analyzer"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert perf_analyzer.find() == program


def test_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(perf_analyzer, "_ENVIRONMENT", tmp_path)
    with pytest.raises(perf_analyzer.PerfAnalyzerFailed, match="make bench"):
        perf_analyzer.find()
