"""Admission control: bounds, release, shares of clients, evictions, and requests that wait for other servers."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

import pytest

from gateway.concurrency import gather
from gateway.errors import Overloaded, ShareExceeded, TooManyFetches
from gateway.in_flight import InFlightLimiter, RequestReservation


def not_evicted(error: Exception) -> None:
    raise AssertionError("the request was evicted")


def test_a_place_is_free_again_after_any_ending() -> None:
    limiter = InFlightLimiter(1, 100)
    with limiter.admit(not_evicted), pytest.raises(Overloaded), limiter.admit(not_evicted):
        raise AssertionError("admitted beyond the limit")
    with pytest.raises(RuntimeError), limiter.admit(not_evicted):
        raise RuntimeError
    assert limiter.count == 0
    with limiter.admit(not_evicted):
        assert limiter.count == 1


def test_bytes_are_bounded_over_all_requests_and_released() -> None:
    limiter = InFlightLimiter(9, 100)
    with limiter.admit(not_evicted) as a, limiter.admit(not_evicted) as b:
        a.add(60)
        with pytest.raises(Overloaded):
            b.add(41)
        b.add(30)
        with pytest.raises(Overloaded), b.reserve() as fetched:
            fetched.add(11)
        assert limiter.bytes == 90
    assert (limiter.count, limiter.bytes) == (0, 0)


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Advances the clock by so many seconds."""
    now = [100.0]
    monkeypatch.setattr("gateway.in_flight.time.monotonic", lambda: now[0])

    def wait(seconds: float) -> None:
        now[0] += seconds

    return wait


def test_a_slow_upload_is_evicted_for_another_request(wait: Callable[[float], None]) -> None:
    limiter, errors = InFlightLimiter(2, 100), list[Exception]()
    with limiter.admit(errors.append) as slow, limiter.admit(not_evicted) as quick:
        slow.add(50)
        wait(0.4)
        with pytest.raises(Overloaded), limiter.admit(not_evicted):
            raise AssertionError("no upload is slow yet")
        quick.body_received(10, more=False)
        wait(60)
        with limiter.admit(not_evicted) as other:
            assert [str(error) for error in errors] == [
                "The server is busy, and this request was slow to arrive. Try again."
            ]
            assert (limiter.count, limiter.bytes) == (2, 0)
            other.body_received(1, more=False)
            # Both bodies are complete, so neither request can be evicted.
            wait(60)
            with pytest.raises(Overloaded), limiter.admit(not_evicted):
                raise AssertionError("admitted beyond the limit")
    assert (limiter.count, limiter.bytes) == (0, 0)


def test_a_large_body_that_arrives_fast_is_not_slow(wait: Callable[[float], None]) -> None:
    limiter = InFlightLimiter(1, 10**9)
    with limiter.admit(not_evicted) as large:
        for _ in range(20):
            wait(1)
            large.body_received(500_000, more=True)
        with pytest.raises(Overloaded), limiter.admit(not_evicted):
            raise AssertionError("admitted beyond the limit")


def test_the_slowest_are_evicted_first_and_no_more_than_needed(wait: Callable[[float], None]) -> None:
    limiter, evicted = InFlightLimiter(9, 100), list[int]()

    def admit(number: int) -> AbstractContextManager[RequestReservation]:
        return limiter.admit(lambda error: evicted.append(number))

    with admit(0) as first:
        first.add(40)
        wait(1)
        with admit(1) as second, admit(2) as third:
            second.add(40)
            third.add(20)
            wait(1)
            third.body_received(0, more=False)
            with third.reserve() as fetched:
                fetched.add(30)
                assert evicted == [0]
                fetched.add(30)
                assert len(evicted) == 2
    assert (limiter.count, limiter.bytes) == (0, 0)


def test_a_slow_upload_that_needs_more_bytes_itself_is_refused(wait: Callable[[float], None]) -> None:
    """A request cannot cancel its own task, and must not hold bytes that nothing releases."""
    limiter = InFlightLimiter(9, 100)
    with limiter.admit(not_evicted) as slow:
        slow.add(90)
        wait(60)
        with pytest.raises(Overloaded, match="slow to arrive"):
            slow.add(20)
    assert (limiter.count, limiter.bytes) == (0, 0)


def test_bytes_that_are_added_after_an_eviction_are_released(wait: Callable[[float], None]) -> None:
    limiter = InFlightLimiter(1, 100)
    with limiter.admit(lambda error: None) as slow:
        wait(60)
        with limiter.admit(not_evicted):
            slow.add(30)
    assert (limiter.count, limiter.bytes) == (0, 0)


class TestClients:
    def test_one_client_leaves_places_for_another(self) -> None:
        limiter = InFlightLimiter(4, 100)
        with ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(limiter.admit(not_evicted, "a"))
            with pytest.raises(Overloaded) as full, limiter.admit(not_evicted, "a"):
                raise AssertionError("admitted beyond the limit")
            assert type(full.value) is Overloaded  # The client is alone, so that the server is full.
            stack.enter_context(limiter.admit(not_evicted, "b"))
            assert limiter.count == 5

    def test_a_refusal_for_the_sake_of_others_has_its_own_name(self) -> None:
        limiter = InFlightLimiter(8, 100)
        with ExitStack() as stack:
            stack.enter_context(limiter.admit(not_evicted, "b"))
            for _ in range(7):
                stack.enter_context(limiter.admit(not_evicted, "a"))
            stack.enter_context(limiter.admit(not_evicted, "a"))
            with pytest.raises(ShareExceeded), limiter.admit(not_evicted, "a"):
                raise AssertionError("admitted beyond the share")
            with limiter.admit(not_evicted, "c"):
                pass

    def test_one_client_leaves_bytes_for_another(self) -> None:
        limiter = InFlightLimiter(9, 100)
        with limiter.admit(not_evicted, "a") as a, limiter.admit(not_evicted, "b") as b:
            a.add(100)
            with pytest.raises(Overloaded), a.reserve() as fetched:
                fetched.add(1)
            b.add(15)
            with b.reserve() as fetched:
                fetched.add(5)
        assert limiter.bytes == 0

    def test_unfair_is_one_limit_for_all(self) -> None:
        limiter = InFlightLimiter(1, 100, fair=False)
        with limiter.admit(not_evicted, "a"), pytest.raises(Overloaded), limiter.admit(not_evicted, "b"):
            raise AssertionError("admitted beyond the limit")

    def test_a_client_with_more_cannot_evict_one_with_less(self, wait: Callable[[float], None]) -> None:
        limiter, evicted = InFlightLimiter(4, 100), list[str]()
        with ExitStack() as stack:
            stack.enter_context(limiter.admit(not_evicted, "slow"))
            for _ in range(4):
                stack.enter_context(limiter.admit(lambda error: evicted.append("a"), "a")).body_received(1, more=False)
            wait(60)
            with pytest.raises(Overloaded), limiter.admit(not_evicted, "a"):
                raise AssertionError("admitted beyond the limit")
            assert evicted == []

    def test_a_client_with_less_evicts_one_with_more(self, wait: Callable[[float], None]) -> None:
        limiter, evicted = InFlightLimiter(1, 100), list[str]()
        with ExitStack() as stack:
            for name in ("a", "b"):
                stack.enter_context(limiter.admit(lambda error, name=name: evicted.append(name), name))  # type: ignore[misc]
            wait(60)
            stack.enter_context(limiter.admit(not_evicted, "c"))
            assert evicted == ["a"]

    def test_a_key_in_the_body_moves_the_request_to_its_client(self) -> None:
        limiter = InFlightLimiter(1, 100)
        with limiter.admit(not_evicted, "address") as first:
            first.add(60)
            first.identify("key")
            assert (limiter.slots.held("address"), limiter.byte_budget.held("address")) == (0, 0)
            assert (limiter.slots.held("key"), limiter.byte_budget.held("key")) == (1, 60)
            with limiter.admit(not_evicted, "address") as second:
                with pytest.raises(Overloaded):
                    second.identify("key")
                assert limiter.slots.held("address") == 1
            assert limiter.count == 1
        assert (limiter.count, limiter.bytes) == (0, 0)


async def steps() -> None:
    """Let the other tasks run until each of them waits."""
    for _ in range(20):
        await asyncio.sleep(0)


class Server:
    """A request that fetches from a server that answers when the test says so, and then works."""

    def __init__(self, limiter: InFlightLimiter, client: str = "a", images: int = 1) -> None:
        self.answer, self.finish = asyncio.Event(), asyncio.Event()
        self.fetching = self.working = 0
        self._limiter, self._client, self._images = limiter, client, images
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        with self._limiter.admit(not_evicted, self._client) as request:
            request.body_received(1, more=False)
            request.expect_fetches(self._images)
            await gather([self._image(request) for _ in range(self._images)])

    async def _image(self, request: RequestReservation) -> None:
        async with request.waiting_for_server():
            self.fetching += 1
            await self.answer.wait()
        async with request.working():
            self.working += 1
            await self.finish.wait()


class TestOtherServers:
    async def test_a_request_that_only_waits_has_no_place(self) -> None:
        limiter = InFlightLimiter(1, 100)
        waiting = [Server(limiter) for _ in range(5)]
        await steps()
        assert (limiter.count, limiter.admitted, limiter.fetches.total) == (0, 5, 5)
        with limiter.admit(not_evicted, "a"):
            assert limiter.count == 1
        for request in waiting:
            request.answer.set()
            request.finish.set()
            await request.task
        assert (limiter.count, limiter.admitted, limiter.fetches.total) == (0, 0, 0)

    async def test_after_the_fetch_it_waits_for_a_place(self) -> None:
        limiter = InFlightLimiter(1, 100)
        first, second = Server(limiter), Server(limiter)
        await steps()
        with limiter.admit(not_evicted, "a"):
            first.answer.set()
            second.answer.set()
            await steps()
            assert (first.working, second.working, limiter.fetches.total) == (0, 0, 0)
        await steps()
        assert (first.working, second.working) == (1, 0)
        with pytest.raises(Overloaded), limiter.admit(not_evicted, "a"):
            raise AssertionError("admitted before one that waits")
        first.finish.set()
        await steps()
        assert (second.working, limiter.count) == (1, 1)
        second.finish.set()
        await asyncio.gather(first.task, second.task)
        assert (limiter.count, limiter.waiting) == (0, {})

    async def test_one_that_waits_for_a_place_can_be_cancelled(self) -> None:
        limiter = InFlightLimiter(1, 100)
        first, second = Server(limiter), Server(limiter)
        await steps()
        with limiter.admit(not_evicted, "a"):
            first.answer.set()
            await steps()
            first.task.cancel()
            await steps()
            assert (first.task.cancelled(), limiter.waiting) == (True, {})
        second.answer.set()
        second.finish.set()
        await second.task
        assert (limiter.count, limiter.admitted, limiter.fetches.total) == (0, 0, 0)

    async def test_many_that_return_at_once_leave_places_for_others(self) -> None:
        limiter = InFlightLimiter(4, 100)
        returning = [Server(limiter) for _ in range(20)]
        await steps()
        for request in returning:
            request.answer.set()
        await steps()
        assert (limiter.count, len(limiter.waiting)) == (4, 16)
        with limiter.admit(not_evicted, "b"):
            pass
        for request in returning:
            request.finish.set()
        await asyncio.gather(*(request.task for request in returning))
        assert (limiter.count, limiter.waiting) == (0, {})

    async def test_fetches_are_bounded_for_each_client(self) -> None:
        limiter = InFlightLimiter(4, 100, 8)
        waiting = [Server(limiter) for _ in range(8)]
        await steps()
        with pytest.raises(TooManyFetches):
            await Server(limiter).task
        other = Server(limiter, "b")
        await steps()
        assert other.fetching == 1
        for request in (*waiting, other):
            request.task.cancel()
        await asyncio.gather(*(request.task for request in (*waiting, other)), return_exceptions=True)
        assert (limiter.count, limiter.admitted, limiter.fetches.total) == (0, 0, 0)

    async def test_a_list_fetches_a_part_at_once_and_all_in_the_end(self) -> None:
        limiter = InFlightLimiter(40, 100, 64)
        one = Server(limiter, images=30)
        await steps()
        assert (one.fetching, limiter.fetches.total) == (4, 4)
        others = [Server(limiter, images=30) for _ in range(20)]
        await steps()
        assert all(other.fetching >= 1 for other in others)
        assert limiter.fetches.total <= 64
        for request in (one, *others):
            request.answer.set()
            request.finish.set()
        await asyncio.gather(*(request.task for request in (one, *others)))
        assert (one.working, others[-1].working) == (30, 30)
        assert (limiter.count, limiter.admitted, limiter.fetches.total) == (0, 0, 0)

    async def test_a_request_keeps_its_place_while_a_part_of_it_works(self) -> None:
        limiter, working, done = InFlightLimiter(1, 100), asyncio.Event(), asyncio.Event()
        with limiter.admit(not_evicted) as request:
            request.body_received(1, more=False)
            request.expect_fetches(1)

            async def fetch() -> None:
                async with request.waiting_for_server():
                    await done.wait()

            async def work() -> None:
                async with request.working():
                    await working.wait()

            parts = [asyncio.create_task(part()) for part in (fetch, work)]
            await steps()
            assert limiter.count == 1
            working.set()
            await steps()
            assert limiter.count == 0
            done.set()
            await asyncio.gather(*parts)
            async with request.working():
                assert limiter.count == 1
        assert (limiter.count, limiter.admitted) == (0, 0)
