import argparse
from pathlib import Path

import pytest

from deploy.bench import cli
from deploy.bench.harness.output_folder import output_folder


def test_a_folder_need_not_exist(tmp_path: Path) -> None:
    assert output_folder(str(tmp_path / "a/b")) == tmp_path / "a/b"
    assert not (tmp_path / "a").exists()
    assert output_folder("benchmark") == Path("benchmark")


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_file_is_in_the_way(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(argparse.ArgumentTypeError, match="file is in the way: it is no folder"):
        output_folder(str(tmp_path / name))


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_each_command_checks_it_first(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="2"):
        cli.main([command, "--output", str(tmp_path / "file")])
    assert "argument --output: " in capsys.readouterr().err
