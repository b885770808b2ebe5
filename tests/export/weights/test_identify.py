from pathlib import Path

import pytest
from safetensors.torch import save_file

from export.errors import CheckpointError
from export.variants import VARIANTS, find_variant
from export.weights.checkpoint import open_checkpoint
from export.weights.identify import identify

pytestmark = pytest.mark.export


def test_a_checkpoint_is_of_the_variant_whose_shapes_it_has(random_checkpoint: Path) -> None:
    assert identify(random_checkpoint) is find_variant("PE-Demo-T8-64")


def test_a_checkpoint_of_something_else_is_refused_with_a_reason_for_each_variant(
    random_checkpoint: Path, tmp_path: Path
) -> None:
    opened = open_checkpoint(random_checkpoint)
    tensors = {key: opened.read(key) for key in opened.shapes if key != "logit_scale"}
    save_file(tensors, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"other\.safetensors is not a checkpoint of a known variant") as caught:
        identify(tmp_path / "other.safetensors")
    assert "PE-Demo-T8-64: logit_scale is missing" in str(caught.value)
    assert all(f"{name}: " in str(caught.value) for name in VARIANTS)


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.pt").write_text("no weights")
    with pytest.raises(CheckpointError, match="is not a file of plain tensors"):
        identify(tmp_path / "notes.pt")
