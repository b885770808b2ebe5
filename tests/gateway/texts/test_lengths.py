"""Division of texts into batches of equal length."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.texts.lengths import Batch, batches

LENGTHS = st.sets(st.integers(2, 100), min_size=1, max_size=7).map(sorted)


def test_texts_are_padded_to_the_next_length_and_keep_their_order_within_it() -> None:
    assert batches([2, 32, 8, 9, 16, 17], [8, 16, 32], max_batch_size=64) == [
        Batch(8, [0, 2]),
        Batch(16, [3, 4]),
        Batch(32, [1, 5]),
    ]


def test_each_length_is_divided_by_the_largest_batch() -> None:
    assert batches([2, 9, 3, 4, 5], [8, 16], max_batch_size=2) == [
        Batch(8, [0, 2]),
        Batch(8, [3, 4]),
        Batch(16, [1]),
    ]


def test_a_model_of_one_length_gets_the_batches_of_a_list_in_order() -> None:
    assert batches([32, 2, 8], [32], max_batch_size=2) == [Batch(32, [0, 1]), Batch(32, [2])]


def test_no_texts_need_no_batch() -> None:
    assert batches([], [8, 16], max_batch_size=2) == []


@given(st.data(), LENGTHS, st.integers(1, 9))
def test_every_text_is_in_one_batch_of_the_shortest_length_that_holds_it(
    data: st.DataObject, lengths: list[int], max_batch_size: int
) -> None:
    counts = data.draw(st.lists(st.integers(1, lengths[-1]), max_size=40))
    divided = batches(counts, lengths, max_batch_size)
    assert sorted(index for batch in divided for index in batch.indices) == list(range(len(counts)))
    for batch in divided:
        assert 1 <= len(batch.indices) <= max_batch_size
        assert batch.indices == sorted(batch.indices)
        for index in batch.indices:
            assert batch.length == min(length for length in lengths if length >= counts[index])
    # No two batches of a length could have been one.
    for length in lengths:
        sizes = [len(batch.indices) for batch in divided if batch.length == length]
        assert all(size == max_batch_size for size in sizes[:-1])
