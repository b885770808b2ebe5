"""The configuration that Triton gets: one warm-up, and the facts of a substitute engine."""

from pathlib import Path
from typing import Any

import pytest

from deploy.embedded.engines import OPENVINO_BF16, OPENVINO_FP32, Substitution
from deploy.embedded.served_config import served_config
from export.repository.config_pbtxt import parse, to_text

REPOSITORY = Path(__file__).parents[3] / "model_repository"
ADDED = {"substitute_engine", "HINT_BF16", "exported_engine", "exported_precision"}
CHANGED = {"engine", "precision", "parity_min_cosine", "parity_max_abs_error"}


def demo(tower: str) -> Any:
    return parse((REPOSITORY / f"PE-Demo-T8-64-{tower}/config.pbtxt").read_bytes())


@pytest.mark.parametrize("tower", ["vision", "text"])
def test_a_full_batch_is_left_out_and_nothing_else(tower: str) -> None:
    exported = demo(tower)
    lengths = {"vision": 1, "text": 4}[tower]
    assert [entry.batch_size for entry in exported.model_warmup] == [1] * lengths + [64] * lengths
    served = served_config(exported, None)
    assert len(exported.model_warmup) == 2 * lengths
    del exported.model_warmup[lengths:]
    exported.input[0].allow_ragged_batch = tower == "text"
    assert served == exported


def test_a_gpu_keeps_the_full_batch() -> None:
    exported = demo("vision")
    assert served_config(exported, None, on_gpu=True) == exported


@pytest.mark.parametrize(
    ("config", "ragged"),
    [
        ("max_batch_size: 8 input { dims: -1 }", [True]),
        ("max_batch_size: 8 input [ { dims: [8, -1] }, { dims: 8 } ]", [True, False]),
        ("input { dims: -1 }", [False]),
    ],
)
def test_requests_of_different_shapes_may_come_together(config: str, ragged: list[bool]) -> None:
    assert [tensor.allow_ragged_batch for tensor in served_config(parse(config), None).input] == ragged


@pytest.mark.parametrize(
    ("config", "sizes"),
    [
        ("", []),
        ("model_warmup { batch_size: 8 }", [8]),
        ("model_warmup { batch_size: 8 } model_warmup [ { batch_size: 2 }, { batch_size: 2 } ]", [2, 2]),
        ("model_warmup { } model_warmup { batch_size: 4 } model_warmup { batch_size: 8 }", [0, 4]),
    ],
)
def test_the_smallest_warm_ups_are_kept_however_they_are_written(config: str, sizes: list[int]) -> None:
    assert [entry.batch_size for entry in served_config(parse(config), None).model_warmup] == sizes


@pytest.mark.parametrize(
    ("substitution", "precision", "cosine", "error"),
    [(OPENVINO_FP32, "fp32", 0.99999, 0.00447), (OPENVINO_BF16, "bf16", 0.999, 0.0447)],
)
def test_a_substitute_engine_states_what_then_holds(
    substitution: Substitution, precision: str, cosine: float, error: float
) -> None:
    exported = demo("vision")
    served = parse(to_text(served_config(exported, substitution)))
    facts = {key: value.string_value for key, value in served.parameters.items()}
    assert (facts["substitute_engine"], facts["engine"], facts["precision"]) == ("openvino", "openvino", precision)
    assert float(facts["parity_min_cosine"]) == cosine
    assert float(facts["parity_max_abs_error"]) == error
    assert (facts["exported_engine"], facts["exported_precision"]) == ("onnx", "fp32")
    kept = {key: value.string_value for key, value in exported.parameters.items() if key not in CHANGED}
    assert kept == {key: value for key, value in facts.items() if key not in CHANGED | ADDED}


def test_a_model_that_states_no_engine_gets_none_as_exported() -> None:
    """A model of somebody else's, in whose configuration pe-export wrote nothing."""
    served = served_config(parse('backend: "onnxruntime"'), OPENVINO_FP32)
    assert not {"exported_engine", "exported_precision"} & set(served.parameters)
    assert served.parameters["engine"].string_value == "openvino"
