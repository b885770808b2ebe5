import inspect
from pathlib import Path
from typing import get_args

import pytest

from deploy.embedded import errors, events, installation
from deploy.embedded.engines import OPENVINO
from deploy.embedded.wording import error_message, event_message

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
    (errors.RepositoryEmpty(HERE, (HERE / "V", HERE / "W")), "them:\n  --repository /srv/models/V\n  --repository"),
    (errors.RepositoryIsModel(HERE / "V-text", HERE), "both towers: --repository /srv/models"),
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
    assert said in error_message(error)


def test_our_own_environment_gets_openvino_by_our_own_script() -> None:
    said = error_message(errors.EngineMissing(installation.CHECKOUT / ".venv-triton", "V-text", OPENVINO))
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
    assert said in event_message(event)


def test_every_event_has_words() -> None:
    assert {type(event) for event, _ in EVENTS} == set(get_args(events.Event))
