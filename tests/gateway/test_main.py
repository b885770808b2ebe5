"""What an operator sees who got the environment wrong: a line that names it, and no traceback."""

import pytest

from gateway.__main__ import main


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PORT", "x", "pe-gateway: PORT: "),
        ("PE_MAX_IN_FLIGHT", "0", "pe-gateway: PE_MAX_IN_FLIGHT: "),
        ("BLACKLISTED_DESTINATIONS_FOR_URL_INPUT", "https://a.example/", "https://a.example/"),
    ],
)
def test_a_wrong_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    assert main() == 2
    assert message in capsys.readouterr().err
