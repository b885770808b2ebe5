import subprocess
from pathlib import Path

import pytest

from deploy.bench.harness.stack import StackFailed
from deploy.bench.speed import scale

ROUND = {
    1: {"images_per_s": 25.0, "spread": [250], "errors": {}},
    2: {"images_per_s": 49.0, "spread": [250, 240], "errors": {"503": 2}},
}


def test_the_report_says_how_it_grows() -> None:
    text = scale.report([ROUND, ROUND], {"requests": 100, "errors": {}, "until new ones were used, s": 2.345})
    assert "| 2 | 49.0 | 1.96 (1.96-1.96) | 1.04 | 4 |" in text.splitlines()
    assert "| errors | none |" in text.splitlines()
    assert "| until new ones were used, s | 2.3 |" in text.splitlines()


def test_names_are_written_in_place(tmp_path: Path) -> None:
    """A bind mount shows the file that was there, not another one of its name."""
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
def test_four_tritons_share_the_work_and_come_and_go_unnoticed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command's own parts, shortened. Its ratios are not asserted: this machine has other things to do."""
    allowed = subprocess.run(["unshare", "--map-root-user", "--mount", "true"], capture_output=True, check=False)
    if allowed.returncode != 0:
        pytest.skip("needs namespaces, which this machine's administrator forbids")
    with scale.site(tmp_path) as made, scale.load(tmp_path) as asking:
        made.start(0, 1, 2, 3)
        shared = scale.throughput(made, asking, 4, seconds=2)
        changed = scale.changes(made, asking, print)
    assert shared["errors"] == changed["errors"] == {}
    assert max(shared["spread"]) <= 1.5 * min(shared["spread"])
    assert changed["requests"] > 200
    assert all(changed["embedded"])
    assert "two more" in capsys.readouterr().out


def test_a_gateway_that_does_not_start_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "_NAMESPACE", ("sh", "-c", "echo forbidden; exit 1"))
    with scale.site(tmp_path) as made, pytest.raises(StackFailed, match="forbidden"), scale.gateway(made):
        pass
