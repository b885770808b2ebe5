"""The command line: invalid environment variables, `--help`, and invalid arguments."""

import pytest

from gateway.__main__ import main


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PORT", "x", "pe-gateway: PORT: "),
        ("PE_MAX_IN_FLIGHT", "0", "pe-gateway: PE_MAX_IN_FLIGHT: "),
        ("PE_TRITON_URL", "http://a.example", "pe-gateway: PE_TRITON_URL: "),
        ("PE_API_KEYS_FILE", "/nonexistent/keys", "PE_API_KEYS_FILE: /nonexistent/keys cannot be read: No such file"),
        ("BLACKLISTED_DESTINATIONS_FOR_URL_INPUT", "https://a.example/", "https://a.example/"),
    ],
)
def test_an_invalid_environment_is_reported(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    assert main([]) == 2
    assert message in capfd.readouterr().err


@pytest.mark.parametrize(("arguments", "status"), [(["--help"], 0), (["--port", "9002"], 2)])
def test_help_and_invalid_arguments_start_no_server(
    capfd: pytest.CaptureFixture[str], arguments: list[str], status: int
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == status
    output = capfd.readouterr()
    assert "usage: pe-gateway" in output.out + output.err
    assert ("PE_TRITON_URL" in output.out) is (status == 0)
    assert ("environment variables configure it, not arguments such as '--port'" in output.err) is (status == 2)


@pytest.mark.parametrize(
    "shown",
    [
        "  PORT (default: 9001)\n      Port",
        "  ALLOW_ORIGINS (default: *)\n",
        "  PE_DECODE_WORKERS (default: one a CPU)\n",
        "  PE_API_KEYS\n",
    ],
)
def test_help_shows_defaults(capsys: pytest.CaptureFixture[str], shown: str) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert shown in capsys.readouterr().out
