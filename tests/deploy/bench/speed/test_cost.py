import pytest

from deploy.bench.speed import cost


def of(loop: float) -> dict[str, float]:
    return {"event loop": loop, "its other threads": 0.1, "decoders": 2.0, "tritonserver": 0.5, "items/s": 200}


def test_the_report_has_medians_and_ranges() -> None:
    rounds = [of(value) for value in (0.6, 0.7, 0.9)]
    row = "| image raw | 0.700 (0.600-0.900) | 0.100 (0.100-0.100) | 2.000 (2.000-2.000) | 0.500 (0.500-0.500) |"
    assert any(line.startswith(row) for line in cost.report({"image raw": rounds}).splitlines())


def test_a_new_text_is_compared_with_the_bare_call_of_its_round() -> None:
    rounds = {cost.NEW_TEXT: [of(0.9), of(1.9)], cost.BARE: [of(-0.1), of(0.9)]}
    assert "`text new` takes 1.42 (1.33-1.50) times the CPU of `bare grpc`." in cost.report(rounds)
    rounds[cost.FLOOR] = [of(0.4), of(1.4)]
    assert "times the CPU of `bare text`." in cost.report(rounds)


def test_sizes_processes_by_the_event_loop_and_cores_by_everything() -> None:
    rounds = {kind: [of(0.7)] for kind in cost.IMAGES}
    # 1,000 images/s at 70 %: 1.0 event loops, 0.14 of gRPC's threads, 2.86 decoders, 0.71 of tritonserver.
    assert cost.sizing(rounds, 1000).splitlines()[2] == "| image base64 | 1 | 4.0 | 2.9 | 0.7 |"


@pytest.mark.triton
def test_measures_every_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert cost.main(["--seconds", "0.3", "--rounds", "1", "--image-size", "16", "--embed-dim", "8"]) == 0
    output = capsys.readouterr().out
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in output.splitlines()
        if line[:2] == "| " and "---" not in line
    ]
    by_kind = {row[0]: row[1:] for row in rows[1 : 1 + len(cost.KINDS)]}
    assert tuple(by_kind) == cost.KINDS
    loop, _, decoders, triton, rate = map(float, by_kind["image raw"])
    assert min(loop, triton, rate) > 0
    assert float(by_kind["image 12 MP"][2]) > decoders
    assert output.count("times the CPU of `bare") == 3
    assert [row[0] for row in rows[-len(cost.IMAGES) :]] == list(cost.IMAGES)
