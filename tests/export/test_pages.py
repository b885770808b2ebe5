"""Check that pe-export accepts every pe-export command in the README pages."""

import re
import shlex
from pathlib import Path

import pytest

from export import cli, options, parity
from export.variants import VARIANTS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "export/README.md", ROOT / "model_repository/README.md"]
COMMANDS = [
    (page, line.partition("#")[0].strip())
    for page in PAGES
    for line in page.read_text().splitlines()
    if line.startswith(".venv-export/bin/pe-export")
]


def test_there_are_some() -> None:
    assert {page for page, _ in COMMANDS} == set(PAGES)


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=lambda value: str(value)[-60:])
def test_a_command_is_understood(page: Path, command: str) -> None:
    _, *arguments = shlex.split(command)
    name, parsed = options.parse(arguments)
    if not name:
        assert parsed.variant in VARIANTS


def test_the_gate_on_the_page_is_the_gate() -> None:
    table = dict(re.findall(r"^\| (fp32|fp16, bf16) \| ([\d.]+)", PAGES[0].read_text(), re.MULTILINE))
    assert table == {"fp32": str(parity.MIN_COSINE["fp32"]), "fp16, bf16": str(parity.MIN_COSINE["bf16"])}
    assert parity.MIN_COSINE["fp16"] == parity.MIN_COSINE["bf16"]


def test_what_pe_export_lists_is_in_the_repository(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "--repository", str(ROOT / "model_repository")]) == 0
    assert "PE-Demo-T8-64-vision/1  onnx    fp32" in capsys.readouterr().out
