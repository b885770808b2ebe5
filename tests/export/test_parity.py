from pathlib import Path

import numpy as np
import pytest

from export import parity
from export.errors import ParityError, RepositoryError


def unit(rows: parity.Array) -> parity.Embeddings:
    unit_rows: parity.Array = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit_rows.astype(np.float32)


EXPECTED = unit(np.random.default_rng(0).normal(size=(16, 64)))


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


def test_all_samples_are_embedded_and_the_progress_told() -> None:
    told: list[float] = []
    embeddings = parity.embed_all(lambda batch: batch[:, :1] * 2, np.ones((7, 4), np.int32), told.append)
    np.testing.assert_array_equal(embeddings, np.full((7, 1), 2, np.float32))
    assert told == sorted(told)
    assert told[-1] == 1


def test_answers_are_read_as_they_were_written(tmp_path: Path) -> None:
    inputs = np.arange(64, dtype=np.int32).reshape(16, 4)
    assert parity.Answers(inputs, EXPECTED).write(tmp_path).name == "parity.npz"
    answers = parity.Answers.read(tmp_path)
    np.testing.assert_array_equal(answers.inputs, inputs)
    np.testing.assert_array_equal(answers.expected, EXPECTED)


def test_answers_that_are_not_there_or_torn_are_named(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match=r"has no parity\.npz"):
        parity.Answers.read(tmp_path)
    (tmp_path / "parity.npz").write_bytes(b"PK torn")
    with pytest.raises(RepositoryError, match=r"parity\.npz cannot be read"):
        parity.Answers.read(tmp_path)
