from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from export.cli import main
from export.errors import CheckpointError
from export.weights.dense import open_dense

pytestmark = pytest.mark.export

KEY = "visual.trunk.blocks.0.attn.qkv.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value.to(torch.float8_e4m3fn), "has float8_e4m3fn; weights must be float32, float16, bfloat16"),
        (lambda value: value.to(torch.int8), "has int8; weights must be"),
        (lambda value: value.to(torch.complex64), "has complex64; weights must be"),
        (lambda value: value.to("meta"), "has no values; weights must be"),
        (lambda value: value.to_sparse(), "cannot be read as a dense tensor"),
    ],
)
def test_a_tensor_that_is_not_dense_floating_point_is_named(
    random_checkpoint: Path, tmp_path: Path, change: Callable[[Tensor], Tensor], message: str
) -> None:
    tensors = load_file(random_checkpoint)
    torch.save(tensors | {KEY: change(tensors[KEY])}, tmp_path / "odd.pt")
    opened = open_dense(tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match=f"^odd.pt: {KEY} {message}"):
        opened.read(KEY)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_every_usual_type_is_read(random_checkpoint: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {key: value.to(dtype) for key, value in load_file(random_checkpoint).items()}
    torch.save(tensors, tmp_path / "usual.pt")
    assert torch.equal(open_dense(tmp_path / "usual.pt").read(KEY), tensors[KEY])


@pytest.mark.parametrize("variant", [[], ["PE-Core-B16-224"]])
def test_a_pointer_of_git_lfs_is_called_that(
    tmp_path: Path, variant: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "PE-Core-B16-224.pt"
    file.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 1792\n")
    assert main([*variant, "--checkpoint", str(file), "--repository", str(tmp_path / "models")]) == 1
    assert f"pe-export: {file} is a pointer of Git LFS, not the weights: run `git lfs pull`" in capsys.readouterr().err


@pytest.mark.parametrize("value", [1000.0, float("nan"), float("inf")])
def test_a_logit_scale_that_is_not_finite_is_refused(
    random_checkpoint: Path, tmp_path: Path, value: float, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "scale.pt"
    torch.save(load_file(random_checkpoint) | {"logit_scale": torch.tensor(value)}, file)
    options = ["--checkpoint", str(file), "--repository", str(tmp_path / "models"), "--towers", "vision"]
    assert main(options) == 1
    assert "pe-export: scale.pt: the exponential of logit_scale is not finite\n" in capsys.readouterr().err
