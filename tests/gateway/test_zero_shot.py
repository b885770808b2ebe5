"""Prompts for classes, their embeddings, and probabilities."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gateway.errors import InvalidInput
from gateway.zero_shot import class_embeddings, classify, probabilities, prompts


@pytest.mark.parametrize(
    ("classes", "templates", "expected"),
    [
        (["cat", "dog"], [], {"cat": ["cat"], "dog": ["dog"]}),
        (["cat"], ["a {}", "the {}: {}"], {"cat": ["a cat", "the cat: cat"]}),
        (["{}"], ["a {}"], {"{}": ["a {}"]}),
        (["a{x}%s"], ["{}"], {"a{x}%s": ["a{x}%s"]}),
        ({"cat": ["a cat", "kitten"], "": [""]}, [], {"cat": ["a cat", "kitten"], "": [""]}),
    ],
)
def test_prompts(
    classes: Sequence[str] | Mapping[str, Sequence[str]], templates: list[str], expected: dict[str, list[str]]
) -> None:
    assert prompts(classes, templates, 8) == expected


@pytest.mark.parametrize(
    ("classes", "templates", "problem"),
    [
        ([], [], "`classes` is empty"),
        ({}, [], "`classes` is empty"),
        (["cat", "dog", "cat"], [], "Class 'cat' occurs twice"),
        (["cat"], ["a {}", "a cat"], "The template 'a cat' has no `{}`"),
        (["cat"], ["a { }"], "has no `{}`"),
        ({"cat": []}, [], "Class 'cat' has no prompt"),
        ({"cat": ["a"]}, ["a {}"], "`template` is for a list of classes"),
        (["a", "b", "c"], ["{}", "{}", "{}"], "9"),
        ({"a": ["x"] * 9}, [], "9"),
        (["x" * 1000] * 1, ["{}" * 2000], "more than 1048576 characters"),
        (["x", "y"], ["{}" + "a" * 2**20], "more than 1048576 characters"),
    ],
)
def test_prompts_refuse(
    classes: Sequence[str] | Mapping[str, Sequence[str]], templates: list[str], problem: str
) -> None:
    with pytest.raises(InvalidInput, match=problem):
        prompts(classes, templates, 8)


def test_a_class_is_the_mean_of_its_prompts() -> None:
    embeddings = np.array([[1, 0], [0, 1], [2, 0], [-1, 0], [1, 0]], np.float32)
    found = class_embeddings(embeddings, [2, 1, 2])
    np.testing.assert_allclose(found, [[0.5**0.5, 0.5**0.5], [1, 0], [0, 0]], atol=1e-7)


@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 6)), elements=st.floats(-1, 1, width=32)),
    st.floats(0.1, 200),
)
def test_probabilities_add_up_and_keep_the_order(similarities: np.ndarray, scale: float) -> None:  # type: ignore[type-arg]
    found = probabilities(similarities, scale)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    for row, cosines in zip(found, similarities, strict=True):
        assert (np.diff(row[np.argsort(cosines)]) >= 0).all()


def test_probabilities_are_the_softmax() -> None:
    found = probabilities(np.array([[0.3, 0.1]], np.float32), 10)
    np.testing.assert_allclose(found, [[1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2))]], rtol=1e-6)


def test_classes_in_the_order_of_their_probability() -> None:
    images = np.array([[2, 0], [0, 1]], np.float32)
    prompts = np.array([[0, 1], [1, 0], [1, 0], [-1, 0]], np.float32)
    found = classify(images, prompts, [1, 2, 1], 10)
    np.testing.assert_allclose(found.similarities, [[0, 1, -1], [1, 0, 0]], atol=1e-7)
    assert found.order.tolist() == [[1, 0, 2], [0, 1, 2]]
    np.testing.assert_allclose(found.probabilities, probabilities(found.similarities, 10))
