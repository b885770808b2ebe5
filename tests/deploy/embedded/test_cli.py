import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.embedded import cli, errors
from deploy.embedded.endpoints import SocketEndpoint
from deploy.embedded.installation import CHECKOUT, Installation
from deploy.embedded.launcher import Options
from deploy.embedded.signals import StopRequested


def run(monkeypatch: pytest.MonkeyPatch, outcome: Exception | None, *arguments: str) -> tuple[int, Options]:
    seen: list[Options] = []

    def serve(options: Options, on_ready: object, report: object) -> None:
        seen.append(options)
        if outcome:
            raise outcome

    monkeypatch.setattr(cli, "serve", serve)
    return cli.main(arguments), seen[0]


def test_exit_statuses(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, None)[0] == 0
    assert run(monkeypatch, errors.PortTaken("h", 1))[0] == 1
    assert run(monkeypatch, StopRequested(2))[0] == 130
    assert "pe-serve: stopped before it was ready (SIGINT)" in capfd.readouterr().err


def test_defaults_are_this_checkout_and_this_machine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    options = run(monkeypatch, None)[1]
    assert (options.host, options.port, options.verbose) == ("127.0.0.1", 9001, False)
    assert options.repository == Path(cli.__file__).parents[2] / "model_repository"


@pytest.mark.parametrize(
    ("variable", "arguments", "ports"),
    [
        ("", [], None),
        ("", ["--triton-ports"], (8000, 8001, 8002)),
        ("1,2,3", [], (1, 2, 3)),
        ("1,2,3", ["--triton-ports=0,0,0"], (0, 0, 0)),
    ],
)
def test_triton_has_ports_only_where_asked(
    monkeypatch: pytest.MonkeyPatch, variable: str, arguments: list[str], ports: tuple[int, int, int] | None
) -> None:
    monkeypatch.setenv("PE_TRITON_PORTS", variable)
    assert run(monkeypatch, None, *arguments)[1].triton_ports == ports


@pytest.mark.parametrize(
    ("text", "said"),
    [("8001", "not three ports"), ("1,2,65536", "not three ports"), ("a,b,c", "not three"), ("1,0,1", "a port twice")],
)
def test_refuses_what_are_no_ports_for_triton(text: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main([f"--triton-ports={text}"])
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_refuses_what_is_no_port(port: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--port", port])
    assert f"argument --port: '{port}' is not a port from 0 to 65535" in capfd.readouterr().err


@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_variable_is_unset(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    for name in ("HOST", "PORT", "NUM_WORKERS", "PE_ONNX_ENGINE", "PE_TRITON_PORTS"):
        monkeypatch.setenv(name, value)
    options = run(monkeypatch, None)[1]
    assert (options.host, options.port, options.workers, options.engine) == ("127.0.0.1", 9001, 1, "auto")
    assert options.triton_ports is None


def test_white_space_around_a_variable_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST", " ::1 ")
    monkeypatch.setenv("PORT", "9002\r")
    options = run(monkeypatch, None)[1]
    assert (options.host, options.port) == ("::1", 9002)


def test_an_engine_that_there_is_not_is_named(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PE_ONNX_ENGINE", "tensorrt")
    with pytest.raises(SystemExit) as caught:
        cli.main([])
    assert caught.value.code == 2
    assert "PE_ONNX_ENGINE is 'tensorrt'; there are auto, onnxruntime, openvino" in capfd.readouterr().err


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[[Installation], str]:
    """ready(installation) -> the banner on a machine with an NVIDIA GPU."""
    monkeypatch.setattr(cli, "nvidia_driver", lambda: "580.159.04")
    monkeypatch.delenv("PE_ONNXRUNTIME_PROVIDER", raising=False)

    def start(found: Installation) -> str:
        def serve(options: Options, on_ready: Callable[..., Any], report: object) -> None:
            on_ready("http://h:1", {}, found, SocketEndpoint(Path("/run/t")))

        monkeypatch.setattr(cli, "serve", serve)
        assert cli.main([]) == 0
        return capfd.readouterr().out

    return start


def test_a_gpu_that_is_not_used_is_named_with_the_command_that_changes_it(
    ready: Callable[[Installation], str], installation: Installation
) -> None:
    text = ready(installation)
    pip = installation.environment / "bin/pip"
    assert f"  {pip} uninstall --yes onnxruntime && {pip} install --no-deps -r " in text
    assert "deploy/embedded/requirements-cuda.txt\n" in text
    ours = dataclasses.replace(installation, environment=CHECKOUT / ".venv-triton")
    assert f"  {CHECKOUT}/deploy/setup.sh cuda\n" in ready(ours)


def test_a_gpu_that_is_used_or_was_declined_is_not_named(
    ready: Callable[[Installation], str], installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "NVIDIA" not in ready(dataclasses.replace(installation, cuda=True))
    monkeypatch.setenv("PE_ONNXRUNTIME_PROVIDER", "cpu")
    assert "NVIDIA" not in ready(installation)


@pytest.mark.parametrize(
    ("program", "arguments", "command"),
    [
        ("/c/.venv/bin/pe-serve", [], "/c/.venv/bin/pe-serve --port 2"),
        ("/c/.venv/bin/pe-serve", ["--repository", "/my models"], "/bin/pe-serve --repository '/my models' --port 2"),
        ("/c/deploy/embedded/cli.py", ["--repository=models"], " pe-serve --repository models --port 2"),
        ("/c/deploy/embedded/cli.py", ["--repo", "models"], " pe-serve --repository models --port 2"),
    ],
)
def test_a_suggested_command_serves_the_same_models(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    program: str,
    arguments: list[str],
    command: str,
) -> None:
    monkeypatch.setattr("sys.argv", [program])
    run(monkeypatch, errors.PortTaken("127.0.0.1", 1), *arguments)
    assert capfd.readouterr().err.endswith(f"{command}\n")
