"""Choose the length to which each text is padded, and divide texts into batches of equal length.

A text tower costs what its tokens cost, and tokens after a text's end token change nothing. So a text is padded only to
the next of a few lengths. There are few, because Triton batches only texts of equal length.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple


class Batch(NamedTuple):
    """Texts to encode together: the length to pad them to, and their indices in the list."""

    length: int
    indices: list[int]


def padded_length(count: int, lengths: Sequence[int]) -> int:
    """Return the shortest of `lengths`, which are ascending, that holds `count` tokens."""
    return lengths[bisect_left(lengths, count)]


def batches(counts: Sequence[int], lengths: Sequence[int], max_batch_size: int) -> list[Batch]:
    """Divide texts into batches. Each text is padded to the shortest length that holds it.

    Args:
        counts: the number of tokens of each text, with start and end, at most `lengths[-1]`.
        lengths: the lengths to pad to, ascending.
        max_batch_size: of a batch.

    Returns:
        Batches from the shortest to the longest length. Within a length the texts keep their order.
    """
    by_length: dict[int, list[int]] = {length: [] for length in lengths}
    for index, count in enumerate(counts):
        by_length[padded_length(count, lengths)].append(index)
    return [
        Batch(length, indices[start : start + max_batch_size])
        for length, indices in by_length.items()
        for start in range(0, len(indices), max_batch_size)
    ]
