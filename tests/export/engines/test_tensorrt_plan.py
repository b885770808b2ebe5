from pathlib import Path

import pytest
import torch

from export.engines import tensorrt_plan
from export.engines.tensorrt_library import load_library
from export.errors import ParityError, TargetError

pytestmark = pytest.mark.export


def test_a_file_that_is_no_plan_is_an_error(tmp_path: Path) -> None:
    """What `plan_on_gpu` computes is compared with torch by every export, which publishes nothing that differs."""
    if not torch.cuda.is_available():
        pytest.skip("TensorRT loads and runs a plan only on a GPU, and this machine has none")
    try:
        load_library()
    except TargetError as error:
        pytest.skip(str(error))
    (tmp_path / "a.plan").write_bytes(b"no plan")
    with pytest.raises(ParityError, match=r"cannot load a\.plan"), tensorrt_plan.plan_on_gpu(tmp_path / "a.plan"):
        pass
