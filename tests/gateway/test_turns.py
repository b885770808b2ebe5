"""The queue in which clients take turns."""

import pytest

from gateway.turns import Turns


def all_of(turns: Turns[str]) -> list[str]:
    return [turns.get() for _ in range(len(turns))]


def filled() -> Turns[str]:
    """Client a has two requests with two items each, then clients b and c come."""
    turns: Turns[str] = Turns()
    for client, request, item in ("a1x", "a1y", "a2x", "a2y", "b3x", "b3y", "c4x"):
        turns.put(client, request, client + request + item)
    return turns


def test_clients_take_turns_and_each_finishes_its_requests() -> None:
    assert all_of(filled()) == ["a1x", "b3x", "c4x", "a1y", "b3y", "a2x", "a2y"]


def test_the_shortest_request_of_a_client_is_first() -> None:
    turns = filled()
    turns.put("a", "5", "a5x")
    assert all_of(turns).index("a5x") == 0


def test_a_newcomer_waits_for_one_item_of_each_other_client() -> None:
    turns = filled()
    turns.put("d", "5", "d5x")
    assert all_of(turns).index("d5x") == 3


def test_items_can_be_removed() -> None:
    turns = filled()
    for item in ("a1x", "c4x", "c4x", "d5x", "b6x", "a1z"):
        turns.discard(item[0], item[1], item)
    assert len(turns) == 5
    assert all_of(turns) == ["a1y", "b3x", "a2x", "b3y", "a2y"]


def test_an_empty_queue_has_no_item() -> None:
    turns: Turns[str] = Turns()
    with pytest.raises(KeyError):
        turns.get()
