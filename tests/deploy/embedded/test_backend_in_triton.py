"""The backend in the real Triton, with both engines: values, batches, and errors that fail one request only."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from tests.deploy.conftest import MODELS
from tests.running import PeServe

pytestmark = pytest.mark.triton
Tokens = NDArray[np.int32]
TABLE = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 1, 0, 0]], np.float32)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The gRPC address of a Triton whose text models wait so long that concurrent requests form one batch."""
    repository = tmp_path_factory.mktemp("models")
    for name in ("Tiny-vision", "Tiny-text", "Fragile-text", "External-text", "AnyLength-text"):
        shutil.copytree(MODELS / name, repository / name)
    for name in ("Tiny-vision", "Tiny-text", "External-text", "AnyLength-text"):
        for_openvino(repository / name)
    for config in repository.glob("*-text/config.pbtxt"):
        config.write_text(config.read_text().replace("microseconds: 1000", "microseconds: 300000"))
    run = PeServe(tmp_path_factory.mktemp("run"), "--port", "0", "--repository", repository)
    try:
        run.wait_until_ready()
        yield run.triton()
        assert run.stop() == 0, run.output
    finally:
        run.kill()


def for_openvino(model: Path) -> None:
    """Add a copy of a model that OpenVINO runs in FP32, with two instances."""
    variant, tower = model.name.split("-")
    copy = model.with_name(f"{variant}OpenVINO-{tower}")
    shutil.copytree(model, copy)
    config = copy / "config.pbtxt"
    text = config.read_text().replace(model.name, copy.name).replace("onnxruntime", "openvino")
    config.write_text(text.replace("count: 1", "count: 2") + 'default_model_filename: "model.onnx"\n')


def expected(tokens: Tokens) -> NDArray[np.float32]:
    mean = TABLE[tokens % len(TABLE)].mean(axis=1)
    unit: NDArray[np.float32] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    return unit


async def infer(client: InferenceServerClient, model: str, tokens: Tokens) -> NDArray[np.float32]:
    tensor = InferInput("tokens", list(tokens.shape), "INT32")
    tensor.set_data_from_numpy(tokens)
    result = await client.infer(model, [tensor])
    embedding: NDArray[np.float32] = result.as_numpy("embedding")
    return embedding


async def batches(client: InferenceServerClient, model: str) -> int:
    statistics = await client.get_inference_statistics(model, as_json=True)
    return int(statistics["model_stats"][0].get("execution_count", 0))


@pytest.mark.parametrize("model", ["Tiny-text", "External-text", "TinyOpenVINO-text", "ExternalOpenVINO-text"])
async def test_requests_of_all_sizes_share_a_batch_and_get_their_own_rows(address: str, model: str) -> None:
    generator = np.random.default_rng(7)
    asked = [generator.integers(0, 5, (rows, 6), np.int32) for rows in (1, 3, 2, 1)]
    async with InferenceServerClient(address) as client:
        before = await batches(client, model)
        answers = await asyncio.gather(*(infer(client, model, tokens) for tokens in asked))
        assert await batches(client, model) - before < len(asked)
    for tokens, answer in zip(asked, answers, strict=True):
        np.testing.assert_allclose(answer, expected(tokens), atol=1e-6)


@pytest.mark.parametrize("model", ["AnyLength-text", "AnyLengthOpenVINO-text"])
async def test_requests_of_all_lengths_come_together_and_get_their_own_rows(address: str, model: str) -> None:
    generator = np.random.default_rng(8)
    shapes = ((1, 6), (2, 3), (1, 9), (1, 3), (2, 6))
    asked = [generator.integers(0, 5, shape, np.int32) for shape in shapes]
    async with InferenceServerClient(address) as client:
        before = await batches(client, model)
        answers = await asyncio.gather(*(infer(client, model, tokens) for tokens in asked))
        # Two instances may share the requests. Without ragged batches there would be at least three executions.
        assert await batches(client, model) - before <= 2
    for tokens, answer in zip(asked, answers, strict=True):
        np.testing.assert_allclose(answer, expected(tokens), atol=1e-6)


async def test_a_bad_request_fails_alone(address: str) -> None:
    good, bad = np.zeros((1, 6), np.int32), np.full((1, 6), 99, np.int32)
    async with InferenceServerClient(address) as client:
        answers = await asyncio.gather(
            *(infer(client, "Fragile-text", tokens) for tokens in (good, bad, good)), return_exceptions=True
        )
        assert isinstance(answers[1], InferenceServerException)
        assert "out of data bounds" in str(answers[1])
        for answer in (answers[0], answers[2], await infer(client, "Fragile-text", good)):
            assert isinstance(answer, np.ndarray)
            np.testing.assert_allclose(answer, expected(good), atol=1e-6)


async def test_an_image_goes_in_as_bytes_and_comes_out_at_unit_length(address: str) -> None:
    image = np.random.default_rng(3).integers(0, 256, (8, 8, 8, 3), np.uint8)
    tensor = InferInput("image", list(image.shape), "UINT8")
    tensor.set_data_from_numpy(image)
    async with InferenceServerClient(address) as client:
        embedding = (await client.infer("Tiny-vision", [tensor])).as_numpy("embedding")
    assert embedding.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), np.ones(8), atol=1e-6)
