import argparse
from pathlib import Path

import pytest

from deploy.bench import cli
from deploy.bench.harness.arguments import output_folder, positive_number, whole_number, whole_numbers


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


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "x", "", "²", "1e3"])
def test_a_whole_number_is_above_zero(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a whole number above 0"):
        whole_number(text)
    with pytest.raises(argparse.ArgumentTypeError):
        whole_numbers(f"1,{text}")


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "x", ""])
def test_a_number_is_above_zero(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a number above 0"):
        positive_number(text)


def test_numbers_are_parsed() -> None:
    assert (whole_number("12"), positive_number("0.5"), whole_numbers("8,1,8")) == (12, 0.5, (8, 1))


@pytest.mark.parametrize("command", ["speed", "tune", "first-check", "gpu"])
def test_a_measurement_takes_time(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main([command, "--seconds", "-1"])
    assert "argument --seconds: '-1' is not a number above 0" in capsys.readouterr().err
