import json
import shutil
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from deploy.bootstrap.environment import Environment, Processes
from deploy.bootstrap.errors import BootstrapError

VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
LAYERS = {"base": [["one"]], "tests": [["two"], ["three"]]}


class Recorder(Processes):
    """Does what `python -m venv` and pip leave behind, without either; fails where told to."""

    def __init__(self, fail_at: str = "") -> None:
        super().__init__()
        self.commands: list[str] = []
        self._fail_at = fail_at

    def run(self, command: Sequence[str], failure: str) -> None:
        self.commands.append(command[-1] if "pip" in command else "venv")
        if self.commands[-1] == self._fail_at:
            raise BootstrapError(failure)
        if "venv" in command:
            make_venv(Path(command[-1]))


def make_venv(path: Path, version: str = VERSION) -> None:
    (path / "lib" / f"python{version}").mkdir(parents=True)
    (path / "bin").mkdir()
    (path / "bin/python").symlink_to(sys.executable)


def environment(root: Path, *layers: str, determined_by: str = "") -> Environment:
    return Environment(root, ".venv", "a test", {layer: LAYERS[layer] for layer in layers or LAYERS}, [determined_by])


def built(root: Path, *layers: str) -> Environment:
    made = environment(root, *layers)
    made.build(Recorder())
    return made


def commands(made: Environment) -> list[str]:
    recorder = Recorder()
    made.build(recorder)
    return recorder.commands


def test_is_made_once(tmp_path: Path) -> None:
    made = environment(tmp_path)
    assert made.missing() == ["base", "tests"]
    assert commands(made) == ["venv", "one", "two", "three"]
    assert made.missing() == []


def test_a_layer_is_added_to_what_is_there(tmp_path: Path) -> None:
    built(tmp_path, "base")
    whole = environment(tmp_path)
    assert commands(whole) == ["two", "three"]
    assert whole.missing() == []
    assert environment(tmp_path, "base").missing() == []


def test_a_layer_that_another_target_made_is_kept(tmp_path: Path) -> None:
    built(tmp_path)
    (tmp_path / ".venv/.built.json").write_text(
        json.dumps(json.loads((tmp_path / ".venv/.built.json").read_text()) | {"base": "old"})
    )
    assert commands(environment(tmp_path, "base")) == ["one"]
    assert environment(tmp_path).missing() == []


def test_is_updated_when_what_determines_it_changed(tmp_path: Path) -> None:
    built(tmp_path)
    changed = environment(tmp_path, determined_by="other versions")
    assert changed.missing() == ["base", "tests"]
    assert commands(changed) == ["one", "two", "three"]


@pytest.mark.parametrize("fail_at", ["venv", "one", "three"])
def test_what_was_interrupted_is_made_anew(tmp_path: Path, fail_at: str) -> None:
    made = environment(tmp_path)
    with pytest.raises(BootstrapError):
        made.build(Recorder(fail_at))
    (tmp_path / ".venv/half-written").touch()
    assert made.missing() == ["base", "tests"]
    assert commands(made)[0] == "venv"
    assert not (tmp_path / ".venv/half-written").exists()
    assert made.missing() == []


def test_an_interrupted_update_is_made_anew(tmp_path: Path) -> None:
    built(tmp_path)
    changed = environment(tmp_path, determined_by="other versions")
    with pytest.raises(BootstrapError):
        changed.build(Recorder("two"))
    assert commands(changed) == ["venv", "one", "two", "three"]


def test_is_made_anew_where_its_python_is_gone(tmp_path: Path) -> None:
    made = built(tmp_path)
    (tmp_path / ".venv/bin/python").unlink()
    (tmp_path / ".venv/bin/python").symlink_to("/nowhere/python")
    assert commands(made)[0] == "venv"


def test_is_made_anew_after_a_move(tmp_path: Path) -> None:
    built(tmp_path)
    (tmp_path / "moved").mkdir()
    shutil.move(tmp_path / ".venv", tmp_path / "moved/.venv")
    assert commands(environment(tmp_path / "moved"))[0] == "venv"


def test_one_of_a_persons_own_making_is_kept(tmp_path: Path) -> None:
    make_venv(tmp_path / ".venv")
    assert commands(environment(tmp_path)) == ["one", "two", "three"]


def test_one_of_their_own_for_another_python_is_left_alone(tmp_path: Path) -> None:
    make_venv(tmp_path / ".venv", "3.9")
    with pytest.raises(BootstrapError, match="is in the way"):
        environment(tmp_path).build(Recorder())
    assert (tmp_path / ".venv/lib/python3.9").exists()


def test_shows_the_end_of_what_failed() -> None:
    code = "print('WARNING: noise'); print(*range(50), sep='\\n'); raise SystemExit(1)"
    with pytest.raises(BootstrapError, match="it failed: the end of the output:\n35\n36\n") as caught:
        Processes().run([sys.executable, "-c", code], "it failed")
    assert "noise" not in str(caught.value)


def test_names_a_network_that_is_not_there() -> None:
    code = "print('WARNING: NewConnectionError'); print('ERROR: No matching distribution'); raise SystemExit(1)"
    with pytest.raises(BootstrapError, match=r"the package index cannot be reached(.|\n)*No matching distribution"):
        Processes().run([sys.executable, "-c", code], "it failed")


def test_pip_installs_where_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_TARGET", "/elsewhere")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    code = "import os; raise SystemExit('PIP_TARGET' in os.environ or 'PYTHONPATH' in os.environ)"
    Processes().run([sys.executable, "-c", code], "it failed")


def test_stopping_ends_what_runs_and_starts_nothing_more() -> None:
    processes = Processes()
    ended: list[BaseException] = []

    def run() -> None:
        try:
            processes.run([sys.executable, "-c", "import time; time.sleep(60)"], "it failed")
        except BootstrapError as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(0.3)
    processes.stop()
    thread.join(10)
    assert len(ended) == 1
    with pytest.raises(BootstrapError, match="interrupted"):
        processes.run([sys.executable, "-c", ""], "it failed")
