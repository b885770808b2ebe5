import json
from pathlib import Path

import pytest

from deploy.bench.gpu.steps import Record


def test_a_failed_step_does_not_end_the_experiment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = Record(tmp_path / "a.json", variant="V")

    def fail() -> None:
        raise ValueError("too small\nby far")

    with record.step("one") as figures:
        figures["rate"] = 1.23456
        fail()
    with record.step("two") as figures:
        figures["rate"] = 2.0
    record.update(found=3)
    kept = json.loads((tmp_path / "a.json").read_text())
    assert [(step["name"], step["state"]) for step in kept["steps"]] == [("one", "failed"), ("two", "done")]
    assert kept["steps"][0]["error"] == "ValueError: too small\nby far"
    assert kept["steps"][0]["rate"] == 1.235
    assert (kept["variant"], kept["found"]) == ("V", 3)
    assert 'raise ValueError("too small' in capsys.readouterr().err


def test_a_step_that_is_cut_off_keeps_its_figures(tmp_path: Path) -> None:
    record = Record(tmp_path / "a.json")

    def cut_off() -> None:
        with record.step("one") as figures:
            figures["rate"] = 1.0
            record.write()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_off()
    (step,) = json.loads((tmp_path / "a.json").read_text())["steps"]
    assert step == {"name": "one", "state": "begun", "rate": 1.0}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
