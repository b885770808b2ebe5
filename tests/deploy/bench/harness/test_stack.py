from pathlib import Path

import pytest

from deploy.bench.harness import stack


@pytest.mark.parametrize(
    ("command", "role"),
    [
        ("/x/bin/tritonserver --model-repository=/m", "tritonserver"),
        ("/b/triton_python_backend_stub /m/models/V-vision/1/model.onnx shm", "stub vision"),
        ("/b/triton_python_backend_stub /m/models/V-text/1/model.onnx shm", "stub text"),
        ("/b/triton_python_backend_stub /m/models/W-text/1/model.onnx shm", None),
        ("/x/bin/python -P -m gateway", "gateway"),
        ("sleep 1", None),
    ],
)
def test_processes_are_recognized_by_their_command(command: str, role: str | None) -> None:
    assert stack._role(command, "V") == role


def test_a_stack_that_does_not_run_is_an_error() -> None:
    for url in ("http://127.0.0.1:1", "127.0.0.1:1"):
        with pytest.raises(stack.StackFailed, match=r"no gateway answers at http://127\.0\.0\.1:1: .*refused"):
            stack.attach(url, "", "", None)


def test_a_gateway_that_does_not_start_is_an_error(tmp_path: Path) -> None:
    failing = stack.gateway(tmp_path, "127.0.0.1:9", prefix=("sh", "-c", "echo forbidden; exit 1"))
    with pytest.raises(stack.StackFailed, match="did not start:\nforbidden"), failing:
        pass
