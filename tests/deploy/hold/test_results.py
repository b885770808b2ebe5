"""README quotes the run that is kept in deploy/hold/results, word for word."""

import json
from pathlib import Path

from deploy.hold import report
from deploy.hold.cli import RESULTS

ROOT = Path(__file__).parents[3]
KEPT = json.loads((RESULTS / "hold.json").read_text())


def test_the_page_is_what_the_figures_say() -> None:
    assert (RESULTS / "hold.md").read_text() == report.markdown(KEPT)


def test_readme_quotes_it() -> None:
    readme = (ROOT / "README.md").read_text()
    shown = report.headlines(KEPT)
    assert len(shown.splitlines()) > 10
    assert shown in readme
    assert "deploy/hold/results/hold.md" in readme


def test_every_headline_is_measured() -> None:
    figures = [figure["what"] for section in KEPT["sections"] for figure in section["figures"]]
    for beginning in report.HEADLINES:
        assert any(what.startswith(beginning) for what in figures), beginning
