import pytest

from export.options import parse


@pytest.mark.parametrize(
    ("arguments", "command"),
    [([], ""), (["PE-Demo-T8-64", "--force"], ""), (["list"], "list"), (["--repository", "list"], "")],
)
def test_the_command_comes_first(arguments: list[str], command: str) -> None:
    assert parse(arguments)[0] == command


def test_the_certificate_gets_a_line_to_copy() -> None:
    assert parse(["--repository", "my models"])[1].command == "pe-export --repository 'my models'"


@pytest.mark.parametrize(
    "option",
    [
        ["--max-batch-size", "0"],
        ["--max-batch-size", "-1"],
        ["--max-batch-size", "10000"],
        ["--max-batch-size", "many"],
        ["--towers", "audio"],
        ["--towers", ""],
        ["--repository", ""],
        ["--repository", "model\udcff"],
        ["--checkpoint", "a\udcff.pt"],
        ["--checkpoint", "a.pt", "--from", "hub"],
        ["--frobnicate"],
    ],
)
def test_senseless_options_are_refused(option: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse(["PE-Demo-T8-64", *option])


@pytest.mark.parametrize("command", ["", "list", "check", "preflight"])
def test_help_names_defaults_and_commands(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        parse([*command.split(), "--help"])
    said = capsys.readouterr().out
    assert "(default: model_repository)" in said
    assert "None" not in said
    assert "PE-\n" not in said
    assert ("pe-export check " in said) == (command != "list" and command != "preflight")
