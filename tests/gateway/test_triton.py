"""Against a real gRPC server on loopback that speaks Triton's protocol and says what the test wants it to say.

The real Triton is in tests/e2e; it cannot be made to answer wrongly.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from gateway.errors import DeadlineExceeded, EncoderFault, EncoderUnavailable, Overloaded, ServerError
from gateway.triton import TritonEncoder, translate, translated_errors

CONFIGS = {
    "V-vision": """
        name: "V-vision" backend: "onnxruntime" max_batch_size: 4
        input { name: "image" data_type: TYPE_UINT8 dims: [2, 3, 3] }
        output { name: "embedding" data_type: TYPE_FP32 dims: [5] }
        parameters { key: "precision" value { string_value: "fp32" } }
    """,
    "V-text": """
        name: "V-text" backend: "onnxruntime" max_batch_size: 16
        input { name: "tokens" data_type: TYPE_INT32 dims: [7] }
        output { name: "embedding" data_type: TYPE_FP32 dims: [5] }
    """,
}


@dataclass
class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    configs: dict[str, str] = field(default_factory=lambda: dict(CONFIGS))
    version: str = "1"
    answer: Callable[[np.ndarray], np.ndarray] = lambda batch: np.ones((len(batch), 5), np.float32)  # type: ignore[type-arg]
    abort: tuple[grpc.StatusCode, str] | None = None
    seconds: float = 0
    received: list[tuple[str, np.ndarray]] = field(default_factory=list)  # type: ignore[type-arg]
    cancelled: int = 0

    async def RepositoryIndex(self, request: Any, context: Any) -> Any:  # noqa: N802
        models = [{"name": name, "version": self.version, "state": "READY"} for name in self.configs]
        return service_pb2.RepositoryIndexResponse(
            models=[*models, {"name": "broken", "version": "1", "state": "UNAVAILABLE", "reason": "no file"}]
        )

    async def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        config = text_format.Parse(self.configs[request.name], model_config_pb2.ModelConfig())
        return service_pb2.ModelConfigResponse(config=config)

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.abort:
            await context.abort(*self.abort)
        dtype = {"UINT8": np.uint8, "INT32": np.int32}[request.inputs[0].datatype]
        batch = np.frombuffer(request.raw_input_contents[0], dtype).reshape(request.inputs[0].shape)
        self.received.append((request.model_name, batch))
        embedding = self.answer(batch)
        datatype = {"float32": "FP32", "float64": "FP64"}[embedding.dtype.name]
        return service_pb2.ModelInferResponse(
            outputs=[{"name": "embedding", "datatype": datatype, "shape": embedding.shape}],
            raw_output_contents=[embedding.tobytes()],
        )


@asynccontextmanager
async def served(triton: FakeTriton, port: int = 0) -> AsyncIterator[int]:
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(triton, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


@asynccontextmanager
async def encoder_of(triton: FakeTriton, call_seconds: float = 5) -> AsyncIterator[TritonEncoder]:
    async with (
        served(triton) as port,
        TritonEncoder(f"127.0.0.1:{port}", call_seconds=call_seconds, watch_seconds=0.05) as encoder,
    ):
        yield encoder


async def eventually(condition: Callable[[], bool], seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


IMAGES = np.arange(2 * 2 * 3 * 3, dtype=np.uint8).reshape(2, 2, 3, 3)
TOKENS = np.arange(3 * 7, dtype=np.int32).reshape(3, 7)


class TestWhatIsServed:
    async def test_it_is_read_from_the_models_configuration(self) -> None:
        async with encoder_of(FakeTriton(version="3")) as encoder:
            (spec,) = encoder.specs.values()
        assert spec.variant == "V"
        assert spec.image_size == (2, 3)
        assert spec.context_length == 7
        assert spec.embed_dim == 5
        assert (spec.vision.max_batch_size, spec.text.max_batch_size) == (4, 16)
        assert spec.vision.version == "3"
        assert spec.vision.certificate == {"precision": "fp32"}

    @pytest.mark.parametrize("missing", ["V-vision", "V-text"])
    async def test_one_tower_is_no_variant(self, missing: str) -> None:
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
    async def test_other_models_are_left_alone(
        self, model: str, old: str, new: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        triton = FakeTriton()
        triton.configs[model] = triton.configs[model].replace(old, new)
        async with encoder_of(triton) as encoder:
            assert not encoder.specs
        if model == "V-vision":
            assert "not what this gateway serves" in caplog.text

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

    async def test_a_triton_that_starts_later_dies_and_returns(self, unused_port: int) -> None:
        async with TritonEncoder(f"127.0.0.1:{unused_port}", call_seconds=5, watch_seconds=0.05) as encoder:
            assert not encoder.specs
            async with served(FakeTriton(), unused_port):
                await eventually(lambda: bool(encoder.specs))
            await eventually(lambda: not encoder.specs)
            async with served(FakeTriton(), unused_port):
                await eventually(lambda: bool(encoder.specs))


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class TestInference:
    async def test_tensors_arrive_and_answers_return(self) -> None:
        triton = FakeTriton(answer=lambda batch: np.arange(len(batch) * 5, dtype=np.float32).reshape(-1, 5))
        async with encoder_of(triton) as encoder:
            images = await encoder.encode_images(encoder.specs["V"], IMAGES)
            texts = await encoder.encode_texts(encoder.specs["V"], TOKENS)
        assert images.tolist() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
        assert texts.shape == (3, 5)
        (vision, sent_images), (text, sent_tokens) = triton.received
        assert (vision, text) == ("V-vision", "V-text")
        np.testing.assert_array_equal(sent_images, IMAGES)
        np.testing.assert_array_equal(sent_tokens, TOKENS)

    @pytest.mark.parametrize(
        "answer",
        [
            lambda batch: np.ones((len(batch), 4), np.float32),
            lambda batch: np.ones((len(batch) + 1, 5), np.float32),
            lambda batch: np.ones((len(batch), 5), np.float64),
            lambda batch: np.full((len(batch), 5), np.nan, np.float32),
            lambda batch: np.full((len(batch), 5), np.inf, np.float32),
        ],
        ids=["dimension", "rows", "type", "nan", "inf"],
    )
    async def test_wrong_answers_are_not_passed_on(self, answer: Any) -> None:
        async with encoder_of(FakeTriton(answer=answer)) as encoder:
            with pytest.raises(EncoderFault):
                await encoder.encode_texts(encoder.specs["V"], TOKENS)

    async def test_a_call_has_an_end(self) -> None:
        async with encoder_of(FakeTriton(seconds=30), call_seconds=0.3) as encoder:
            with pytest.raises(DeadlineExceeded):
                await encoder.encode_texts(encoder.specs["V"], TOKENS)

    async def test_cancelling_reaches_triton(self) -> None:
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
    async def test_tritons_errors(self, code: grpc.StatusCode, message: str, expected: type[ServerError]) -> None:
        async with encoder_of(FakeTriton(abort=(code, message))) as encoder:
            with pytest.raises(expected) as raised:
                await encoder.encode_texts(encoder.specs["V"], TOKENS)
        assert message not in str(raised.value)


class TestTranslation:
    @pytest.mark.parametrize("code", list(grpc.StatusCode))
    def test_every_status_has_an_error(self, code: grpc.StatusCode) -> None:
        assert isinstance(translate(str(code), "anything"), ServerError)

    def test_a_status_nobody_knows(self) -> None:
        assert isinstance(translate(None, "broken"), EncoderFault)

    def test_both_libraries_errors_are_translated(self) -> None:
        with pytest.raises(EncoderUnavailable), translated_errors():
            raise InferenceServerException("gone", status="StatusCode.UNAVAILABLE")
        with pytest.raises(EncoderFault), translated_errors():
            raise grpc.RpcError("odd")
