from pathlib import Path

import pytest

from deploy.bench.speed import memory_regions


def test_the_ratio_is_that_of_each_round() -> None:
    rounds = {"message": [(1.0, 0.5, 100.0), (2.0, 1.0, 50.0)], "shared memory": [(0.5, 0.4, 150.0), (1.2, 0.8, 60.0)]}
    assert memory_regions.report(rounds).splitlines()[-1] == (
        "| shared memory / message | 0.55 (0.50-0.60) | 0.80 (0.80-0.80) | 1.35 (1.20-1.50) |"
    )


@pytest.mark.triton
def test_measures_both_and_leaves_no_region_behind(capsys: pytest.CaptureFixture[str]) -> None:
    assert memory_regions.main(["--image-size", "16", "--rounds", "1"]) == 0
    rows = [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines()]
    assert rows[2:] == ["message", "shared memory", "shared memory / message"]
    assert not list(Path("/dev/shm").glob("pe-bench-*"))
