import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from export.variants import find_variant
from export.weights.checkpoint import open_checkpoint, read_logit_scale, verify
from export.weights.random_checkpoint import write

pytestmark = pytest.mark.export


def test_the_command_writes_a_whole_checkpoint_that_says_what_it_is(tmp_path: Path) -> None:
    file = tmp_path / "random.safetensors"
    command = [sys.executable, "-m", "export.weights.random_checkpoint", "PE-Demo-T8-64", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr.startswith(f"{file}  ")
    opened = open_checkpoint(file)
    verify(find_variant("PE-Demo-T8-64"), opened)
    assert opened.notice == "Random weights: the embeddings mean nothing."
    assert read_logit_scale(opened) == pytest.approx(100)


def test_a_seed_gives_the_same_weights_again(random_checkpoint: Path, tmp_path: Path) -> None:
    write("PE-Demo-T8-64", tmp_path / "again.safetensors")
    write("PE-Demo-T8-64", tmp_path / "other.safetensors", seed=1)
    first, again, other = (
        load_file(path)["text.text_projection"]
        for path in (random_checkpoint, tmp_path / "again.safetensors", tmp_path / "other.safetensors")
    )
    assert first.equal(again)
    assert not first.equal(other)
