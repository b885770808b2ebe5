"""The bound that clients share."""

from collections.abc import Iterable

import pytest

from gateway.fair_pool import FairPool


def filled(pool: FairPool, *clients: str) -> None:
    """Let the clients ask in turn until none of them gets more."""
    while asking := [client for client in clients if pool.fits(client)]:
        for client in asking:
            if pool.fits(client):
                pool.take(client)


def held(pool: FairPool, clients: Iterable[str]) -> list[int]:
    return [pool.held(client) for client in clients]


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 10, 64, 1_000])
def test_one_client_gets_the_limit_and_the_next_still_gets_something(limit: int) -> None:
    pool = FairPool(limit, max(1, limit // 4))
    filled(pool, "a")
    assert pool.held("a") == limit
    assert not pool.fits("a")
    assert pool.fits_others("a") is False  # There are no others: the pool is full for its only client.
    assert pool.fits("b")
    filled(pool, "b")
    assert pool.held("b") >= 1
    assert pool.total <= limit + max(1, limit // 4)


def test_clients_that_ask_for_everything_get_equal_parts() -> None:
    for count in (2, 3, 5):
        pool, clients = FairPool(64, 16), [f"client {i}" for i in range(count)]
        filled(pool, *clients)
        assert max(held(pool, clients)) - min(held(pool, clients)) <= 1
        assert 64 <= pool.total <= 80


def test_who_holds_more_than_the_share_gets_no_more_until_the_others_have_theirs() -> None:
    """As units come back one by one, they go to the client that has fewer."""
    pool = FairPool(64, 16)
    filled(pool, "a")
    filled(pool, "a", "b")
    while pool.held("a") > pool.held("b") + 1:
        before = pool.held("a")
        pool.give_back("a")
        filled(pool, "a", "b")
        assert pool.held("a") < before
    assert pool.held("b") == pytest.approx(pool.held("a"), abs=1)


def test_many_small_clients_fill_the_pool_and_no_more() -> None:
    pool = FairPool(8, 2)
    for i in range(10):
        assert pool.fits(f"client {i}")
        pool.take(f"client {i}")
    assert not pool.fits("client 10")
    pool.give_back("client 3")
    assert pool.fits("client 10")


def test_sizes() -> None:
    pool = FairPool(100, 25)
    assert not pool.fits("a", 101)
    pool.take("a", 90)
    assert not pool.fits("a", 11)
    assert pool.fits("a", 10)
    assert not pool.fits("b", 36)
    assert pool.fits("b", 35)
    pool.take("b", 20)
    assert not pool.fits("a", 1)  # 90 is more than four times the 15 that are free.
    assert pool.fits_others("a", 1)


def test_without_a_reserve_clients_are_one() -> None:
    pool = FairPool(4, 0)
    filled(pool, "a")
    assert pool.total == 4
    assert not pool.fits("b")


def test_nothing_is_remembered_of_clients_that_hold_nothing() -> None:
    pool = FairPool(4, 1)
    for i in range(1_000):
        pool.take(str(i))
        pool.give_back(str(i))
    assert pool.total == 0
    assert not pool._held
