"""Stop pe-export during an export. Only complete models remain, and the next run exports the rest."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from export.cli import main
from tests.export.graph_replay import GraphReplay

# pe-export with graphs from an earlier export, because tracing is slow and this test does not interrupt it.
EXPORT = """
import sys
from pathlib import Path
from export import cli
from export.graph import onnx_graph
from tests.export.graph_replay import GraphReplay
onnx_graph.export_graph = GraphReplay(Path(sys.argv[1]))
sys.exit(cli.main(sys.argv[2:]))
"""

pytestmark = [pytest.mark.export, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

ROOT = Path(__file__).parents[2]
VISION = [
    "PE-Demo-T8-64-vision/1/model.onnx",
    "PE-Demo-T8-64-vision/1/parity.json",
    "PE-Demo-T8-64-vision/1/parity.npz",
]


def tree(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.mark.parametrize(("ending", "status"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 130)])
def test_a_run_that_is_stopped_leaves_whole_models_only(
    random_checkpoint: Path,
    exported: Path,
    replay: GraphReplay,
    tmp_path: Path,
    ending: signal.Signals,
    status: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    models = tmp_path / "models"
    arguments = ["PE-Demo-T8-64", "--checkpoint", str(random_checkpoint), "--repository", str(models)]
    command = [sys.executable, "-c", EXPORT, str(exported), *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("text     load"):  # The vision tower is published, and the text tower is in progress.
                break
        process.send_signal(ending)
        rest = process.stderr.read()
    assert process.returncode == status, rest
    if ending == signal.SIGTERM:
        assert rest.splitlines()[-1] == "pe-export: stopped; the repository holds no incomplete model"
    assert tree(models) == [*VISION, "PE-Demo-T8-64-vision/config.pbtxt"]
    assert [entry.name for entry in models.iterdir()] == ["PE-Demo-T8-64-vision"]

    assert main(arguments) == 0
    assert replay.exports == 1
    said = capsys.readouterr().err
    assert "PE-Demo-T8-64-vision/1  up to date" in said
    assert "vision   load" not in said
    assert len(tree(models)) == 8
    assert [entry.name for entry in tmp_path.iterdir()] == ["models"]
