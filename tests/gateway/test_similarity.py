import numpy as np

from gateway.similarity import cosine


def test_cosine() -> None:
    query = np.array([3, 4, 0], np.float32)
    candidates = np.array([[3, 4, 0], [-6, -8, 0], [0, 0, 2], [4, 3, 0]], np.float32)
    similarities = cosine(query, candidates)
    assert similarities.dtype == np.float32
    np.testing.assert_allclose(similarities, [1, -1, 0, 0.96], atol=1e-7)


def test_no_candidates() -> None:
    assert cosine(np.ones(3, np.float32), np.empty((0, 3), np.float32)).shape == (0,)


def test_inputs_are_not_modified() -> None:
    query, candidates = np.full(2, 2, np.float32), np.full((1, 2), 3, np.float32)
    cosine(query, candidates)
    assert query.tolist() == [2, 2]
    assert candidates.tolist() == [[3, 3]]
