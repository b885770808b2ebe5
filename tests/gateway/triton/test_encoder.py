"""`TritonEncoder` against a gRPC server on loopback; see tests/fake_triton.py."""

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc
import numpy as np
import pytest

from gateway.errors import DeadlineExceeded, EncoderFault, EncoderUnavailable, Overloaded, ServerError
from gateway.triton.encoder import TritonEncoder
from tests.fake_triton import CONFIGS, FakeTriton, eventually, served, unit_rows

IMAGES: Final = np.arange(2 * 2 * 3 * 3, dtype=np.uint8).reshape(2, 2, 3, 3)
TOKENS: Final = np.arange(3 * 7, dtype=np.int32).reshape(3, 7)


def with_any_length(parameters: dict[str, str]) -> str:
    """The configuration of a text model whose axis of tokens is dynamic."""
    lines = [f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}' for key, value in parameters.items()]
    return "\n".join([CONFIGS["V-text"].replace("[7]", "[-1]"), *lines])


@asynccontextmanager
async def encoder_of(triton: FakeTriton, call_timeout_seconds: float = 5) -> AsyncIterator[TritonEncoder]:
    async with (
        served(triton) as port,
        TritonEncoder(
            f"127.0.0.1:{port}", call_timeout_seconds=call_timeout_seconds, poll_interval_seconds=0.05
        ) as encoder,
    ):
        yield encoder


class TestSpecs:
    async def test_are_read_from_the_models_configurations(self) -> None:
        async with encoder_of(FakeTriton(version="3")) as encoder:
            (spec,) = encoder.specs.values()
        assert spec.variant == "V"
        assert spec.image_size == (2, 3)
        assert (spec.context_length, spec.token_lengths) == (7, (7,))
        assert spec.embed_dim == 5
        assert (spec.vision.max_batch_size, spec.text.max_batch_size) == (4, 16)
        assert spec.vision.version == "3"
        assert spec.vision.certificate == {"precision": "fp32"}

    @pytest.mark.parametrize(
        ("groups", "instances"),
        [
            ("", 1),
            ("instance_group { kind: KIND_CPU count: 3 }", 3),
            ("instance_group { kind: KIND_GPU count: 2 gpus: [0, 1, 3] } instance_group { count: 1 }", 7),
        ],
    )
    async def test_instances_are_counted(self, groups: str, instances: int) -> None:
        triton = FakeTriton()
        triton.configs["V-vision"] += groups
        async with encoder_of(triton) as encoder:
            assert encoder.specs["V"].vision.instances == instances
            assert encoder.specs["V"].text.instances == 1

    @pytest.mark.parametrize(
        ("parameters", "lengths"),
        [({"context_length": "7", "token_lengths": "5 6 7"}, (5, 6, 7)), ({"context_length": "7"}, (7,))],
    )
    async def test_token_lengths_of_a_dynamic_axis_are_parameters(
        self, parameters: dict[str, str], lengths: tuple[int, ...]
    ) -> None:
        triton = FakeTriton()
        triton.configs["V-text"] = with_any_length(parameters)
        async with encoder_of(triton) as encoder:
            (spec,) = encoder.specs.values()
            assert (spec.context_length, spec.token_lengths) == (7, lengths)
            assert await encoder.ready()  # by a probe of the shortest length
        assert (1, lengths[0]) in [batch.shape for model, batch in triton.received if model == "V-text"]

    @pytest.mark.parametrize(
        "parameters",
        [
            {},
            {"token_lengths": "3 7"},
            {"context_length": "7", "token_lengths": "3 5"},
            {"context_length": "7", "token_lengths": "5 3 7"},
            {"context_length": "7", "token_lengths": "3 3 7"},
            {"context_length": "7", "token_lengths": "1 7"},
            {"context_length": "7", "token_lengths": "3, 7"},
            {"context_length": "7", "token_lengths": "-3 7"},
            {"context_length": "many"},
            {"context_length": "1"},
        ],
    )
    async def test_a_dynamic_axis_without_valid_lengths_is_not_served(
        self, parameters: dict[str, str], caplog: pytest.LogCaptureFixture
    ) -> None:
        triton = FakeTriton()
        triton.configs["V-text"] = with_any_length(parameters)
        async with encoder_of(triton) as encoder:
            assert not encoder.specs
        assert "V-text: `tokens` has any length, so the parameter `context_length` must give" in caplog.text

    @pytest.mark.parametrize("missing", ["V-vision", "V-text"])
    async def test_one_tower_is_not_a_variant(self, missing: str) -> None:
        triton = FakeTriton()
        del triton.configs[missing]
        async with encoder_of(triton) as encoder:
            assert not encoder.specs

    @pytest.mark.parametrize(
        ("model", "old", "new"),
        [
            ("V-vision", "TYPE_UINT8", "TYPE_FP32"),
            ("V-vision", '"image"', '"pixels"'),
            ("V-vision", "[2, 3, 3]", "[3, 2, 3, 3]"),
            ("V-vision", "[2, 3, 3]", "[2, 3, 4]"),
            ("V-vision", "[2, 3, 3]", "[-1, -1, 3]"),
            ("V-vision", "max_batch_size: 4", "max_batch_size: 0"),
            ("V-vision", "[5]", "[6]"),
            ("V-text", '"embedding"', '"features"'),
            ("V-text", "TYPE_INT32", "TYPE_INT64"),
        ],
    )
    async def test_models_with_other_tensors_are_not_served(
        self, model: str, old: str, new: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        triton = FakeTriton()
        triton.configs[model] = triton.configs[model].replace(old, new)
        async with encoder_of(triton) as encoder:
            assert not encoder.specs
        if model == "V-vision":
            assert "cannot be served" in caplog.text

    @pytest.mark.parametrize(("of_text", "warns"), [("a", False), ("b", True), ("", False)])
    async def test_towers_of_different_checkpoints_are_logged(
        self, of_text: str, warns: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        triton = FakeTriton()
        for model, digest in (("V-vision", "a"), ("V-text", of_text)):
            parameter = f'parameters {{ key: "checkpoint_sha256" value {{ string_value: "{digest}" }} }}'
            triton.configs[model] = f"{CONFIGS[model]}\n{parameter}"
        async with encoder_of(triton) as encoder:
            assert list(encoder.specs) == ["V"]
        assert ("towers of V were exported from different checkpoints" in caplog.text) is warns

    async def test_changes_are_noticed(self) -> None:
        triton = FakeTriton()
        async with encoder_of(triton) as encoder:
            triton.version = "2"
            await eventually(lambda: encoder.specs["V"].vision.version == "2")
            for tower in ("vision", "text"):
                triton.configs[f"W-{tower}"] = CONFIGS[f"V-{tower}"].replace("V-", "W-")
            await eventually(lambda: list(encoder.specs) == ["V", "W"])
            triton.configs.clear()
            await eventually(lambda: not encoder.specs)

    async def test_a_triton_that_starts_late_stops_and_restarts(self, unused_port: int) -> None:
        async with TritonEncoder(
            f"127.0.0.1:{unused_port}", call_timeout_seconds=5, poll_interval_seconds=0.05
        ) as encoder:
            assert not encoder.specs
            async with served(FakeTriton(), unused_port):
                await eventually(lambda: bool(encoder.specs))
            await eventually(lambda: not encoder.specs)
            async with served(FakeTriton(), unused_port):
                await eventually(lambda: bool(encoder.specs))

    async def test_a_triton_on_a_unix_socket(self) -> None:
        with tempfile.TemporaryDirectory(dir="/tmp") as directory:
            url = f"unix:{directory}/t.sock:1"
            async with served(FakeTriton(), address=url), TritonEncoder(url) as encoder:
                texts = await encoder.encode_texts(encoder.specs["V"], TOKENS)
        np.testing.assert_allclose(texts, unit_rows(TOKENS))

    @pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "grpc_proxy"])
    async def test_no_proxy_stands_between(
        self, unused_port: int, monkeypatch: pytest.MonkeyPatch, variable: str
    ) -> None:
        for name in ("no_proxy", "no_grpc_proxy", "http_proxy", "https_proxy", "grpc_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(variable, f"http://127.0.0.1:{unused_port}")
        async with encoder_of(FakeTriton()) as encoder:
            assert list(encoder.specs) == ["V"]


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class TestInference:
    async def test_sends_tensors_and_returns_embeddings(self) -> None:
        triton = FakeTriton()
        async with encoder_of(triton) as encoder:
            images = await encoder.encode_images(encoder.specs["V"], IMAGES)
            texts = await encoder.encode_texts(encoder.specs["V"], TOKENS)
        np.testing.assert_array_equal(images, unit_rows(IMAGES))
        np.testing.assert_array_equal(texts, unit_rows(TOKENS))
        (vision, sent_images), (text, sent_tokens) = triton.received
        assert (vision, text) == ("V-vision", "V-text")
        np.testing.assert_array_equal(sent_images, IMAGES)
        np.testing.assert_array_equal(sent_tokens, TOKENS)

    @pytest.mark.parametrize(
        "answer",
        [
            lambda batch: unit_rows(batch)[:, :4],
            lambda batch: unit_rows(batch)[1:],
            lambda batch: unit_rows(batch).astype(np.float64),
            lambda batch: unit_rows(batch) * np.array([[1], [1], [np.nan]], np.float32),
            lambda batch: np.full((len(batch), 5), np.inf, np.float32),
            lambda batch: np.full((len(batch), 5), 1e30, np.float32),
            lambda batch: np.zeros((len(batch), 5), np.float32),
            lambda batch: unit_rows(batch) * np.float32(1.02),
        ],
        ids=["dimension", "rows", "type", "nan", "inf", "overflow", "zero", "length"],
    )
    async def test_invalid_embeddings_raise(self, answer: Any) -> None:
        async with encoder_of(FakeTriton(answer=answer)) as encoder:
            with pytest.raises(EncoderFault):
                await encoder.encode_texts(encoder.specs["V"], TOKENS)

    async def test_a_call_has_a_deadline(self) -> None:
        async with encoder_of(FakeTriton(seconds=30), call_timeout_seconds=0.3) as encoder:
            with pytest.raises(DeadlineExceeded):
                await encoder.encode_texts(encoder.specs["V"], TOKENS)

    async def test_cancelling_a_call_cancels_it_in_triton(self) -> None:
        triton = FakeTriton(seconds=30)
        async with encoder_of(triton) as encoder:
            call = asyncio.create_task(encoder.encode_texts(encoder.specs["V"], TOKENS))
            await asyncio.sleep(0.2)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await eventually(lambda: triton.cancelled == 1)

    @pytest.mark.parametrize(
        ("code", "message", "expected"),
        [
            (grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size", Overloaded),
            (grpc.StatusCode.UNAVAILABLE, "Request timeout expired", DeadlineExceeded),
            (grpc.StatusCode.UNAVAILABLE, "Server is stopping", EncoderUnavailable),
            (grpc.StatusCode.INTERNAL, "onnx runtime error 6", EncoderFault),
        ],
    )
    async def test_errors_of_triton_are_translated(
        self, code: grpc.StatusCode, message: str, expected: type[ServerError]
    ) -> None:
        async with encoder_of(FakeTriton(abort=(code, message))) as encoder:
            with pytest.raises(expected) as raised:
                await encoder.encode_texts(encoder.specs["V"], TOKENS)
        assert message not in str(raised.value)
