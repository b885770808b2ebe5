import pytest

from deploy.bench import cli


@pytest.mark.parametrize(
    ("arguments", "program"),
    [
        (["--help"], "pe-bench speed"),
        (["speed", "--help"], "pe-bench speed"),
        (["resilience", "--help"], "pe-bench resilience"),
        (["tune", "--help"], "pe-bench tune"),
        (["first-check", "--help"], "pe-bench first-check"),
        (["gpu", "--help"], "pe-bench gpu"),
    ],
)
def test_each_command_has_its_own_options(
    arguments: list[str], program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(arguments)
    assert capsys.readouterr().out.startswith(f"usage: {program} ")


def test_the_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--help"])
    said = capsys.readouterr().out.rpartition("Commands:")[2]
    assert all(name in said for name in cli.COMMANDS)


def test_an_unknown_command_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["speeds", "--quick"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("pe-bench: unknown command 'speeds': choose from speed, resilience,")
    assert "Did you mean speed?" in said
