"""Run `pe-bench resilience --quick` around the real stack.

Targets that depend on the machine's speed are not asserted.
"""

import json
import subprocess
import sys
from typing import Any

import pytest

from deploy.bench.resilience.cli import SECTIONS

pytestmark = pytest.mark.triton

# Faults of Triton have tests of their own: tests/e2e/test_two_tritons.py and tests/deploy/embedded/test_recovery.py.
ONLY = tuple(SECTIONS.keys() - {"real", "faults"})


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("resilience")
    command = [
        sys.executable,
        "-m",
        "deploy.bench.cli",
        "resilience",
        "--quick",
        "--output",
        str(folder),
        "--only",
        *ONLY,
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode in (0, 1), run.stderr
    assert (folder / "resilience.md").read_text().count("\n| **") == len(ONLY)
    found: dict[str, Any] = json.loads((folder / "resilience.json").read_text())
    return found


def test_measures_everything(results: dict[str, Any]) -> None:
    assert [section["failed"] for section in results["sections"]] == [""] * len(ONLY)
    for section in results["sections"]:
        assert len(section["figures"]) >= 3
        for figure in section["figures"]:
            assert figure["value"] is not None, figure


def test_meets_the_targets_that_do_not_depend_on_speed(results: dict[str, Any]) -> None:
    missed = [
        figure
        for section in results["sections"]
        for figure in section["figures"]
        if figure["met"] is False and not figure["timed"]
    ]
    assert missed == []
