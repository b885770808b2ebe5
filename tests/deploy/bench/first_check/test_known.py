"""What counts as wrong in the answers to known requests."""

from typing import Any

import pytest

from deploy.bench.first_check.known import CAPTIONS, problems
from deploy.bench.harness import photographs

RIGHT: dict[str, Any] = {"best": [0, 1, 2, 3, 4], "matches": 5, "same_image": 0.99999, "same_text": 1.0}


def test_each_picture_has_a_caption() -> None:
    assert len(photographs.photographs()[0]) == len(CAPTIONS)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"best": [0, 1, 2, 3, 0], "matches": 4}, ["1 of 5 pictures match another caption better: " + CAPTIONS[4]]),
        ({"matches": None}, []),
        ({"same_image": 0.9}, ["the same picture sent in different ways has a cosine of 0.900000"]),
        ({"same_text": float("nan")}, ["the same text sent in different ways has a cosine of nan"]),
    ],
)
def test_problems(changes: dict[str, Any], expected: list[str]) -> None:
    assert problems(RIGHT | changes, demo=False) == expected


def test_a_demo_is_not_judged_by_its_matches() -> None:
    assert problems(RIGHT | {"matches": 0}, demo=True) == []
