"""Requests that are joined from bytes are the messages that protobuf writes."""

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from gateway.triton.infer_request import serialize


@pytest.mark.parametrize(
    ("name", "datatype", "batch"),
    [
        ("image", "UINT8", np.arange(2 * 5 * 7 * 3, dtype=np.uint8).reshape(2, 5, 7, 3)),
        ("image", "UINT8", np.zeros((1, 1, 127, 1), np.uint8)),
        ("image", "UINT8", np.ones((8, 336, 336, 3), np.uint8)),
        ("tokens", "INT32", np.arange(32, dtype=np.int32)[np.newaxis]),
        ("tokens", "INT32", np.arange(64, dtype=np.int32).reshape(2, 32)[:, ::2]),
    ],
    ids=["images", "length of one byte", "length of four bytes", "tokens", "not contiguous"],
)
def test_equals_protobufs_message(name: str, datatype: str, batch: np.ndarray) -> None:  # type: ignore[type-arg]
    found = service_pb2.ModelInferRequest.FromString(serialize("V-vision", "3", name, batch))  # type: ignore[arg-type]
    assert found == service_pb2.ModelInferRequest(
        model_name="V-vision",
        model_version="3",
        inputs=[{"name": name, "datatype": datatype, "shape": batch.shape}],
        outputs=[{"name": "embedding"}],
        raw_input_contents=[batch.tobytes()],
    )
