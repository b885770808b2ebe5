import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from deploy.embedded import cli, errors, events, installation
from deploy.embedded.endpoints import SocketEndpoint
from deploy.embedded.engines import OPENVINO
from deploy.embedded.installation import CHECKOUT, Installation
from deploy.embedded.launcher import Options
from deploy.embedded.signals import StopRequested

HERE = Path("/srv/models")
EXAMPLES: list[tuple[errors.LaunchError, str]] = [
    (errors.InstallationMissing((HERE, Path("/c")), Path("/r.txt")), "/srv/models and /c is not there"),
    (errors.InstallationBroken(HERE, "bin/python"), "/srv/models lacks bin/python"),
    (errors.EngineMissing(HERE, "V-text", OPENVINO), f"/bin/pip install --no-deps -r {OPENVINO.requirements}"),
    (errors.LibpythonMissing(Path("/p"), "libpython3.11.so.1.0"), "apt-get install libpython3.11)"),
    (errors.RunDirectoryUnusable({HERE: "it is full"}), "be run:\n  /srv/models: it is full\nFree some space"),
    (errors.PortTaken("0.0.0.0", 9001), "--port 9002"),
    (errors.PortTaken("127.0.0.1", 8001, "--triton-ports"), "--triton-ports 0,0,0"),
    (
        errors.SocketDirectoryImpossible({Path("/run"): "it is full"}),
        "Triton's socket:\n  /run: it is full\nSet TMPDIR",
    ),
    (errors.AddressUnusable("nowhere", 9001, "Name or service not known"), "nowhere, port 9001: Name"),
    (errors.RepositoryMissing(HERE), "no model repository at /srv/models"),
    (errors.RepositoryEmpty(HERE), "/srv/models holds no model"),
    (errors.ModelIncomplete(HERE / "V-text", "config.pbtxt"), "V-text is incomplete: /srv/models/V-text has no config"),
    (
        errors.ConfigInvalid(HERE / "V-text", "config.pbtxt is not a Triton configuration: 3:1"),
        "V-text cannot be read: /srv/models/V-text/config.pbtxt is not a Triton configuration: 3:1\nExport it again",
    ),
    (errors.VariantIncomplete(HERE, "V-text"), "V-text is missing"),
    (errors.EngineUnsupported(HERE / "V-text", "tensorrt"), "V-text is for Triton's tensorrt backend"),
    (errors.EngineUnsupported(HERE / "V-text", "tensorrt", "it is a plan"), "not have:\nit is a plan;\nit runs onnx"),
    (errors.ModelsNotLoaded({"V-text": "it is torn"}, Path("/log")), "  V-text: it is torn\nTriton's log: /log"),
    (
        errors.ProcessDied("Triton", -11, "last words", Path("/log")),
        "(signal SIGSEGV). The end of its log:\nlast words",
    ),
    (
        errors.DiedTooOften("Triton", 5, 60, -9, "last words", Path("/log")),
        "ended 5 times within 60 s or before it was ready, last with signal SIGKILL: giving up. The end of its log:",
    ),
    (
        errors.ProcessNotReady("The gateway", 30, "", None),
        "The gateway was not ready after 30 s. What it said is above.",
    ),
]


@pytest.mark.parametrize(("error", "said"), EXAMPLES, ids=lambda value: type(value).__name__)
def test_a_message_says_what_is_wrong_and_what_to_do(error: errors.LaunchError, said: str) -> None:
    assert said in cli.error_message(error)


def test_our_own_environment_gets_openvino_by_our_own_script() -> None:
    said = cli.error_message(errors.EngineMissing(installation.CHECKOUT / ".venv-triton", "V-text", OPENVINO))
    assert "model V-text needs OpenVINO, which" in said
    assert "lacks. Add it (180 MB):" in said
    assert said.endswith("deploy/setup.sh openvino")


def test_every_error_has_a_message() -> None:
    leaves = {
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.LaunchError) and not kind.__subclasses__()
    }
    assert {type(error) for error, _ in EXAMPLES} == leaves


EVENTS: list[tuple[events.Event, str]] = [
    (events.TritonDied(-9, 0.5, Path("/log")), "(signal SIGKILL); starting it again in 0.5 s.\nTriton's log: /log"),
    (events.TritonRestarted(3.21), "Triton is back, after 3.2 s."),
    (events.ModelLoaded("V-text", 2), "model V-text: version 2 is served now."),
    (events.EngineReplaced("V-text", "it differs"), "V-text: onnxruntime runs it as it was exported, because it diff"),
    (events.ModelRefused("V-text", 2, "it is torn"), "version 2 could not be loaded, and is left out"),
    (events.ModelRemoved("V-text"), "model V-text is not in the repository any more"),
    (events.ModelSkipped(errors.ModelIncomplete(HERE, "config.pbtxt")), "has no config.pbtxt. Export it again"),
]


@pytest.mark.parametrize(("event", "said"), EVENTS, ids=lambda value: type(value).__name__)
def test_an_event_has_a_message(event: events.Event, said: str) -> None:
    assert said in cli.event_message(event)


def test_every_event_has_words() -> None:
    assert {type(event) for event, _ in EVENTS} == set(get_args(events.Event))


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
    ("arguments", "command"),
    [
        (["/c/.venv/bin/pe-serve"], "/c/.venv/bin/pe-serve"),
        (["/c/.venv/bin/pe-serve", "--port", "0", "--repository", "/my models"], "pe-serve --repository '/my models'"),
        (["/c/deploy/embedded/cli.py", "--repository=models"], "pe-serve --repository models"),
    ],
)
def test_the_command_in_advice_serves_the_same_models(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], command: str
) -> None:
    monkeypatch.setattr("sys.argv", arguments)
    assert cli._command().endswith(command)
