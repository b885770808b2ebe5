import subprocess
from pathlib import Path

import pytest

from deploy.bench.harness import worker
from deploy.bench.speed import scale

ROUND = {
    1: {"images_per_s": 25.0, "embedded": [250], "errors": {}},
    2: {"images_per_s": 49.0, "embedded": [250, 240], "errors": {"503": 2}},
}


def test_the_report_shows_the_growth() -> None:
    text = scale.report([ROUND, ROUND], {"requests": 100, "errors": {}, "s until the new ones were used": 2.345})
    assert "| 2 | 49.0 | 1.96 (1.96-1.96) | 1.04 | 4 |" in text.splitlines()
    assert "| errors | none |" in text.splitlines()
    assert "| s until the new ones were used | 2.3 |" in text.splitlines()


def test_names_are_written_in_place(tmp_path: Path) -> None:
    """A bind mount shows the file that was there, not a new one of the same name."""
    with scale.site(tmp_path) as made:
        before = made.hosts.stat().st_ino
        made.name(0, 2)
        assert made.hosts.stat().st_ino == before
        assert made.hosts.read_text().splitlines() == [
            "127.0.0.1 localhost",
            "127.0.1.1 tritons",
            "127.0.1.3 tritons",
        ]


@pytest.mark.triton
def test_four_tritons_get_equal_work_and_start_and_stop_without_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run the parts of the command, shortened. Its ratios depend on the machine and are not asserted."""
    allowed = subprocess.run(["unshare", "--map-root-user", "--mount", "true"], capture_output=True, check=False)
    if allowed.returncode != 0:
        pytest.skip("needs namespaces, which this machine's administrator forbids")
    with scale.site(tmp_path) as made, worker.load_generator() as load:
        made.start(0, 1, 2, 3)
        even = scale.throughput(made, load, 4, seconds=2)
        changed = scale.changes(made, load, print)
    assert even["errors"] == changed["errors"] == {}
    assert max(even["embedded"]) <= 1.5 * min(even["embedded"])
    assert changed["requests"] > 200
    assert all(changed["embedded"])
    assert "two more" in capsys.readouterr().out
