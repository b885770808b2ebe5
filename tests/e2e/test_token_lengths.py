"""The whole server with texts of all lengths, against Triton's embedding of the full context length."""

from collections.abc import Iterator

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient, InferInput

from gateway.texts.tokenizer import Tokenizer
from tests.running import PeServe

pytestmark = pytest.mark.triton

MODEL = "PE-Demo-T8-64-text"
CONTEXT_LENGTH = 32
LENGTHS = (8, 16, 24, 32)
# "a" is one token. Start and end are two.
TEXTS = [f"{'a ' * (tokens - 3)}{word}" for tokens in (4, 7, 8, 9, 16, 17, 24, 25, 31, 32, 40) for word in "bcd"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The gateway's URL and Triton's gRPC address."""
    run = PeServe(tmp_path_factory.mktemp("run"), "--port", "0")
    try:
        yield run.wait_until_ready(), run.triton()
        assert run.stop() == 0, run.output
    finally:
        run.kill()


def infer(client: InferenceServerClient, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
    tensor = InferInput("tokens", list(tokens.shape), "INT32")
    tensor.set_data_from_numpy(tokens)
    embedding: NDArray[np.float32] = client.infer(MODEL, [tensor]).as_numpy("embedding")
    return embedding


def test_texts_of_all_lengths_get_the_embedding_of_the_full_length(server: tuple[str, str]) -> None:
    url, triton = server
    encodings = [Tokenizer(CONTEXT_LENGTH).encode(text) for text in TEXTS]
    assert {encoding.length for encoding in encodings} == {4, 7, 8, 9, 16, 17, 24, 25, 31, 32}
    with InferenceServerClient(triton) as client:
        expected = infer(client, np.stack([encoding.tokens for encoding in encodings]))
    order = np.random.default_rng(0).permutation(len(TEXTS))
    answer = httpx2.post(f"{url}/perception_encoder/embed_text", json={"text": [TEXTS[i] for i in order]}, timeout=60)
    assert answer.status_code == 200
    actual = np.array(answer.json()["embeddings"], np.float32)
    np.testing.assert_allclose(actual, expected[order], atol=1e-5)
    assert (actual * expected[order]).sum(axis=1).min() > 0.999999
    assert np.linalg.matrix_rank(expected) > 10  # The texts have different embeddings.


def test_clients_of_triton_may_send_any_length_from_the_end_token_on(server: tuple[str, str]) -> None:
    encoding = Tokenizer(CONTEXT_LENGTH).encode("a red circle beside a blue square")
    with InferenceServerClient(server[1]) as client:
        expected = infer(client, encoding.tokens[None])
        for length in range(encoding.length, CONTEXT_LENGTH):
            np.testing.assert_allclose(infer(client, encoding.tokens[None, :length].copy()), expected, atol=1e-5)
