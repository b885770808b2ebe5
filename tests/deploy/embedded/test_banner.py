import json
import shlex
from typing import Any

import pytest

from deploy.embedded.banner import banner, curl, gpu_advice, openvino_advice
from deploy.embedded.endpoints import PortEndpoints

INFO = {"models": {"PE-Demo": {"image_size": [64, 48], "context_length": 32, "embed_dim": 128}}}


def body_of(command: str) -> dict[str, Any]:
    body = json.loads(shlex.split(command)[-1])
    assert isinstance(body, dict)
    return body


def test_says_what_is_served_and_how_to_ask() -> None:
    text = banner("http://127.0.0.1:9001", INFO, local=True)
    assert "PE-Demo: images 64x48, texts of up to 32 tokens, embeddings of 128 numbers" in text
    assert "this machine only" in text
    assert curl("http://127.0.0.1:9001", ["PE-Demo"]) in text.splitlines()


def test_shows_engine_precision_and_notice_where_known() -> None:
    model = INFO["models"]["PE-Demo"] | {"engine": "onnx", "precision": "fp32", "notice": "Not Meta's model."}
    text = banner("http://h:1", {"models": {"PE-Demo": model}}, local=False)
    assert "; onnx fp32" in text
    assert "Not Meta's model." in text
    assert "this machine only" not in text


def test_an_unknown_gateway_still_gives_a_banner() -> None:
    assert "Ready on http://h:1" in banner("http://h:1", {}, local=True)


def test_names_the_ports_of_triton_where_it_has_some() -> None:
    text = banner("http://h:1", INFO, local=True, triton=PortEndpoints(1, 2, 3))
    assert "every user of this machine: HTTP 127.0.0.1:1, gRPC 127.0.0.1:2, metrics http://127.0.0.1:3/metrics" in text
    assert "Triton's own ports" not in banner("http://h:1", INFO, local=True)


def test_the_command_has_a_place_for_a_key_where_one_is_needed() -> None:
    text = banner("http://h:1", INFO, local=True, keys=True)
    assert "Try it, with one of your API keys in place of KEY:" in text
    assert "Authorization: Bearer KEY" in shlex.split(curl("http://h:1", ["PE-Demo"], keys=True))
    assert "KEY" not in banner("http://h:1", INFO, local=True)


def test_names_a_variant_only_if_there_are_several() -> None:
    assert "perception_encoder_version_id" not in body_of(curl("http://h:1", ["A"]))
    assert body_of(curl("http://h:1", ["A", "B"]))["perception_encoder_version_id"] == "A"


SLOW = {"engine": "onnx", "precision": "fp32"}


def test_advises_bf16_where_the_cpu_is_made_for_it() -> None:
    info = {"models": {"PE-Core-B16-224": SLOW, "PE-Demo-T8-64": SLOW}}
    text = openvino_advice(info, bf16=True, add_openvino="add it", command="pe-serve")
    assert "may run PE-Core-B16-224 about twice as fast" in text
    assert text.splitlines()[-2:] == ["  add it", "  pe-serve"]
    assert openvino_advice(info, bf16=True, add_openvino=None, command="pe-serve") == ""
    assert text in banner("http://h:1", info, local=True, advice=text)


@pytest.mark.parametrize(
    ("bf16", "models"),
    [
        (False, {"PE-Core-B16-224": SLOW}),
        (True, {"PE-Core-B16-224": {"engine": "openvino", "precision": "bf16"}}),
        (True, {"PE-Demo-T8-64": SLOW}),
        (True, {}),
    ],
)
def test_has_no_advice_else(bf16: bool, models: dict[str, Any]) -> None:
    assert openvino_advice({"models": models}, bf16, "add it", "pe-serve") == ""


def test_shows_the_engine_of_each_tower_where_they_differ() -> None:
    towers = {"vision": {"engine": "openvino", "precision": "bf16"}, "text": {"engine": "onnx", "precision": "fp32"}}
    text = banner("http://h:1", {"models": {"V": INFO["models"]["PE-Demo"] | towers}}, local=True)
    assert "numbers; vision openvino bf16, text onnx fp32" in text


BF16 = {"engine": "openvino", "precision": "bf16", "exported_engine": "onnx", "exported_precision": "fp32"}


@pytest.mark.parametrize("facts", [BF16, {"vision": BF16, "text": SLOW}, {"vision": SLOW, "text": BF16}])
def test_says_that_a_model_is_computed_in_another_precision_and_how_to_prevent_it(facts: dict[str, Any]) -> None:
    text = banner("http://h:1", {"models": {"V": facts, "W": SLOW}}, local=True)
    assert "\nV: exported in FP32 and computed in BF16, which is faster on this CPU. FP32: --engine onnxruntime" in text


@pytest.mark.parametrize(
    "facts",
    [SLOW, {"engine": "openvino", "precision": "bf16"}, BF16 | {"precision": "fp32"}, {"vision": SLOW, "text": SLOW}],
)
def test_says_nothing_of_the_precision_that_was_exported(facts: dict[str, Any]) -> None:
    assert "exported in" not in banner("http://h:1", {"models": {"V": facts}}, local=True)


@pytest.mark.parametrize("driver", ["580.65.06", "600", "", "?"])
def test_advises_cuda_where_there_is_a_gpu(driver: str) -> None:
    text = gpu_advice(driver, "add it", "pe-serve")
    assert "The NVIDIA GPU of this machine is not used." in text
    assert text.splitlines()[-2:] == ["  add it", "  pe-serve"]


def test_advises_no_cuda_that_the_driver_cannot_run() -> None:
    text = gpu_advice("570.86.10", "add it", "pe-serve")
    assert "its driver is 570.86.10. onnxruntime for CUDA 13 needs 580 or newer" in text
    assert "add it" not in text
