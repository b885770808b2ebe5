import pytest

from deploy.bench.speed import cost


def test_the_report_has_medians_and_ranges() -> None:
    rounds = [{"gateway": value, "tritonserver": value / 10} for value in (6.0, 7.0, 9.0)]
    assert "| image raw | 7.00 (6.00-9.00) | 0.70 (0.60-0.90) |" in cost.report({"image raw": rounds}).splitlines()


@pytest.mark.triton
def test_measures_every_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert cost.main(["--seconds", "0.3", "--rounds", "1", "--image-size", "16", "--embed-dim", "8"]) == 0
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0].strip() for row in rows] == list(cost.KINDS)
    spent = {row[0].strip(): float(row[1].split()[0]) for row in rows}
    assert spent["image 12 MP"] > spent["image raw"] > 0
