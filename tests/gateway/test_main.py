"""The gateway as a process: what an operator sees who got the environment wrong."""

import pytest

from gateway.__main__ import main


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PORT", "x", "pe-gateway: PORT: "),
        ("PE_MAX_IN_FLIGHT", "0", "pe-gateway: PE_MAX_IN_FLIGHT: "),
        ("PE_TRITON_URL", "http://a.example", "pe-gateway: PE_TRITON_URL: "),
        ("BLACKLISTED_DESTINATIONS_FOR_URL_INPUT", "https://a.example/", "https://a.example/"),
    ],
)
def test_a_wrong_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    assert main([]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "status"), [(["--help"], 0), (["--port", "9002"], 2)])
def test_a_question_starts_no_server(capsys: pytest.CaptureFixture[str], arguments: list[str], status: int) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == status
    said = capsys.readouterr()
    assert "usage: pe-gateway" in said.out + said.err
    assert ("PE_TRITON_URL" in said.out) is (status == 0)
