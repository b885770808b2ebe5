"""Triton loads the committed repository directly, without `pe-serve`, as a stock container does."""

from pathlib import Path

import pytest

from deploy.embedded import installation
from deploy.embedded.endpoints import on_ports
from deploy.embedded.run_directory import cache
from deploy.embedded.signals import Signals
from deploy.embedded.triton_process import TritonProcess

pytestmark = pytest.mark.triton

REPOSITORY = Path(__file__).parents[3] / "model_repository"


class Stock(TritonProcess):
    def _arguments(self) -> list[str]:
        return [
            f"--model-repository={REPOSITORY}" if argument.startswith("--model-repository=") else argument
            for argument in super()._arguments()
        ]


def test_triton_loads_it_unchanged_and_ignores_its_page(tmp_path: Path) -> None:
    assert (REPOSITORY / "README.md").is_file()
    # Options of onnxruntime's CUDA provider, which a server on a CPU has to ignore.
    assert all("gpu_mem_limit" in config.read_text() for config in REPOSITORY.glob("*/config.pbtxt"))
    with Signals() as signals:
        found = installation.find(installation.candidate_environments(cache()))
        triton = Stock(found, [], tmp_path, verbose=False, endpoints=on_ports((0, 0, 0)))
        try:
            triton.wait_until_ready(signals)
            index = triton.index()
        finally:
            triton.stop(signals)
    assert index is not None
    assert {(model["name"], model["state"]) for model in index} == {
        ("PE-Demo-T8-64-vision", "READY"),
        ("PE-Demo-T8-64-text", "READY"),
    }
    assert "README" not in (tmp_path / "triton.log").read_text()
