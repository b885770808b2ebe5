"""Admission control: bounds, release, and which slow uploads are evicted."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from gateway.errors import Overloaded
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
        with pytest.raises(Overloaded), limiter.reserve() as fetched:
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
            with limiter.reserve() as fetched:
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
