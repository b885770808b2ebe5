"""The limit of requests in flight."""

import asyncio
import time

import pytest

from deploy.bulk.adaptive_limit import AdaptiveLimit

pytestmark = pytest.mark.bulk


async def fill(limit: AdaptiveLimit) -> None:
    """Take all places."""
    for _ in range(limit.limit):
        await asyncio.wait_for(limit.acquire(), 1)


async def test_it_doubles_until_the_first_refusal() -> None:
    limit = AdaptiveLimit(start=4, most=24)
    waiting = [asyncio.create_task(limit.acquire()) for _ in range(100)]  # more than there are places, as under load
    await asyncio.sleep(0)
    for expected in (8, 16, 24):
        for _ in range(limit.limit):
            limit.succeeded(0.1)
            limit.release()
        assert limit.limit == expected
    for task in waiting:
        task.cancel()


async def test_a_refusal_halves_it_and_then_it_grows_by_one() -> None:
    limit = AdaptiveLimit(start=16)
    limit.refused(time.monotonic())
    assert limit.limit == 8
    await fill(limit)
    for _ in range(9):
        limit.succeeded(0.1)
    assert limit.limit == 9


async def test_refusals_of_requests_that_were_in_flight_together_count_once() -> None:
    limit = AdaptiveLimit(start=16)
    sent = time.monotonic()
    for _ in range(5):
        limit.refused(sent)
    assert limit.limit == 8
    limit.refused(time.monotonic())
    assert limit.limit == 4


async def test_it_never_falls_below_one() -> None:
    limit = AdaptiveLimit(start=1)
    limit.refused(time.monotonic())
    await asyncio.wait_for(limit.acquire(), 1)


async def test_it_does_not_grow_while_places_are_free_or_answers_are_slow() -> None:
    limit = AdaptiveLimit(start=2)
    await limit.acquire()
    limit.succeeded(0.1)
    assert limit.limit == 2
    await limit.acquire()
    limit.succeeded(6.0)
    assert limit.limit == 2


async def test_those_who_wait_are_served_in_order_and_may_leave() -> None:
    limit = AdaptiveLimit(start=1)
    await limit.acquire()
    served: list[str] = []

    async def wait(name: str) -> None:
        await limit.acquire()
        served.append(name)

    first, second, third = (asyncio.create_task(wait(name)) for name in ("first", "second", "third"))
    await asyncio.sleep(0)
    second.cancel()
    for _ in range(2):
        limit.release()
        await asyncio.sleep(0.01)
    assert served == ["first", "third"]
    assert first.done()
    assert third.done()


async def test_a_place_that_was_given_to_one_who_leaves_is_given_on() -> None:
    limit = AdaptiveLimit(start=1)
    await limit.acquire()
    leaves, stays = asyncio.create_task(limit.acquire()), asyncio.create_task(limit.acquire())
    await asyncio.sleep(0)
    limit.release()  # to the first one, which is cancelled before it runs
    leaves.cancel()
    await asyncio.wait_for(stays, 1)


async def test_a_request_that_was_sent_before_gets_the_next_place() -> None:
    limit = AdaptiveLimit(start=1)
    await limit.acquire()
    served: list[str] = []

    async def take(name: str, again: bool) -> None:
        await limit.acquire(again=again)
        served.append(name)
        limit.release()

    waiting = [asyncio.create_task(take(name, again)) for name, again in (("first", False), ("sent before", True))]
    await asyncio.sleep(0)
    limit.release()
    await asyncio.gather(*waiting)
    assert served == ["sent before", "first"]
