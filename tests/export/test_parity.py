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
    """Torch's are among them: finite weights can still overflow."""
    assert callable(spoil)
    with pytest.raises(ParityError, match=r"^embeddings are not finite and of unit length"):
        parity.compare(EXPECTED, spoil(EXPECTED))
    with pytest.raises(ParityError, match=r"^torch's embeddings are not finite and of unit length"):
        parity.compare(spoil(EXPECTED), EXPECTED)


def test_a_cosine_that_is_no_number_is_below_every_limit() -> None:
    with pytest.raises(ParityError, match="nan"):
        parity.require(parity.Parity(1, float("nan"), 0.0), "bf16")


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
    assert parity.Answers(inputs, EXPECTED, (2, 4)).write(tmp_path).name == "parity.npz"
    answers = parity.Answers.read(tmp_path)
    assert answers.token_lengths == (2, 4)
    np.testing.assert_array_equal(answers.inputs, inputs)
    np.testing.assert_array_equal(answers.expected, EXPECTED)


TOKENS = np.array([[7, 5, 0, 0], [7, 0, 5, 0], [7, 7, 7, 5], [5, 0, 0, 0], [7, 7, 5, 0]], np.int32)


def test_a_text_is_compared_at_full_length_and_at_the_shortest_that_it_fits() -> None:
    answers = parity.Answers(TOKENS, EXPECTED[:5], (2, 3, 4))
    full, two, three = answers.parts()
    np.testing.assert_array_equal(full[0], TOKENS)
    np.testing.assert_array_equal(full[1], EXPECTED[:5])
    np.testing.assert_array_equal(two[0], [[7, 5], [5, 0]])
    np.testing.assert_array_equal(two[1], EXPECTED[[0, 3]])
    np.testing.assert_array_equal(three[0], [[7, 0, 5], [7, 7, 5]])
    np.testing.assert_array_equal(three[1], EXPECTED[[1, 4]])


def test_images_are_compared_once() -> None:
    images = np.zeros((5, 2, 2, 3), np.uint8)
    [(inputs, _)] = parity.Answers(images, EXPECTED[:5]).parts()
    assert inputs is images


@pytest.mark.parametrize("wrong_at", [4, 3, 2])
def test_an_error_at_one_length_is_found(wrong_at: int) -> None:
    answers = parity.Answers(TOKENS, EXPECTED[:5], (2, 3, 4))

    def embed(batch: parity.Array) -> parity.Array:
        padded = np.pad(batch, ((0, 0), (0, 4 - batch.shape[1])))
        rows = [int((row == TOKENS).all(axis=1).argmax()) for row in padded]
        return EXPECTED[rows] if batch.shape[1] != wrong_at else -EXPECTED[rows]

    told: list[float] = []
    figures = parity.measure(answers, embed, told.append)
    assert figures.samples == 9
    assert figures.min_cosine == pytest.approx(-1)
    assert told == sorted(told)
    assert told[-1] == 1


def test_answers_that_are_not_there_or_torn_are_named(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match=r"has no parity\.npz"):
        parity.Answers.read(tmp_path)
    (tmp_path / "parity.npz").write_bytes(b"PK torn")
    with pytest.raises(RepositoryError, match=r"parity\.npz cannot be read"):
        parity.Answers.read(tmp_path)
