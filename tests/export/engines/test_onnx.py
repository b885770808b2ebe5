from pathlib import Path

import numpy as np
import pytest

from export.engines.onnx import onnxruntime_session
from export.errors import ParityError

pytestmark = pytest.mark.export

TOKENS = np.zeros((1, 32), np.int32)


def test_a_file_that_the_runtime_refuses_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a graph")
    with (
        pytest.raises(ParityError, match=r"onnxruntime cannot run model\.onnx") as raised,
        onnxruntime_session(path),
    ):
        pass
    assert "\n" not in str(raised.value)


def test_an_input_that_the_graph_refuses_is_one_line(exported: Path) -> None:
    path = exported / "PE-Demo-T8-64-text" / "1" / "model.onnx"
    with pytest.raises(ParityError, match="onnxruntime cannot run"), onnxruntime_session(path) as embed:
        embed(TOKENS.astype(np.int64))


def test_other_errors_pass_unchanged(exported: Path) -> None:
    path = exported / "PE-Demo-T8-64-text" / "1" / "model.onnx"
    with pytest.raises(ZeroDivisionError), onnxruntime_session(path):
        _ = 1 / 0
