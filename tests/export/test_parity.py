from pathlib import Path

import numpy as np
import pytest

from export import parity
from export.errors import ParityError
from export.variants import VARIANTS, find_variant

pytestmark = pytest.mark.export


def unit(rows: parity.Array) -> parity.Embeddings:
    unit_rows: parity.Array = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit_rows.astype(np.float32)


EXPECTED = unit(np.random.default_rng(0).normal(size=(16, 64)))


def test_samples_are_photographs_and_a_few_hundred_texts() -> None:
    for variant in VARIANTS.values():
        tokens = parity.samples(variant, "text")
        assert tokens.dtype == np.int32
        assert len(tokens) >= 200
        assert tokens.shape[1] == variant.context_length
        assert len(np.unique(tokens, axis=0)) == len(tokens)
    images = parity.samples(find_variant("PE-Demo-T8-64"), "vision")
    assert images.shape == (8, 64, 64, 3)
    assert images.dtype == np.uint8


def test_batches_of_several_sizes_cover_every_sample_once() -> None:
    inputs = np.arange(13)
    batches = list(parity._batches(inputs, largest=4))
    assert [len(batch) for batch in batches] == [1, 2, 3, 4, 3]
    np.testing.assert_array_equal(np.concatenate(batches), inputs)


def test_equal_embeddings_are_perfect() -> None:
    figures = parity.compare(EXPECTED, EXPECTED.copy())
    assert figures.samples == 16
    assert figures.min_cosine == pytest.approx(1, abs=1e-7)
    assert figures.max_abs_error == 0
    parity.require(figures, "fp32")


def test_one_wrong_row_of_many_is_found() -> None:
    actual = EXPECTED.copy()
    actual[7] = unit(actual[7:8] + 0.01 * np.random.default_rng(1).normal(size=(1, 64)))[0]
    figures = parity.compare(EXPECTED, actual)
    assert figures.min_cosine == pytest.approx(float(EXPECTED[7] @ actual[7]), abs=1e-6)
    with pytest.raises(ParityError, match=r"minimum cosine .* below 0.99999 for fp32"):
        parity.require(figures, "fp32")


@pytest.mark.parametrize("spoil", [lambda a: a * 2, lambda a: a * np.nan], ids=["length", "nan"])
def test_embeddings_that_are_no_unit_vectors_are_refused(spoil: object) -> None:
    assert callable(spoil)
    with pytest.raises(ParityError, match="unit length"):
        parity.compare(EXPECTED, spoil(EXPECTED))


def test_a_shape_that_differs_is_refused() -> None:
    with pytest.raises(ParityError, match="shape"):
        parity.compare(EXPECTED, EXPECTED[:3])


def test_a_file_that_the_runtime_refuses_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(ParityError, match=r"onnxruntime cannot run model\.onnx") as raised:
        parity.embed_with_onnxruntime(path, np.zeros((1, 32), np.int32))
    assert "\n" not in str(raised.value)
