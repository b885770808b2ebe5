from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from gateway.errors import Overloaded
from gateway.in_flight import InFlight, Stay


def stays() -> None:
    raise AssertionError("it was sent away")


def test_a_place_is_free_again_after_any_ending() -> None:
    in_flight = InFlight(1, 100)
    with in_flight.admit(stays), pytest.raises(Overloaded), in_flight.admit(stays):
        raise AssertionError("admitted beyond the limit")
    with pytest.raises(RuntimeError), in_flight.admit(stays):
        raise RuntimeError
    assert in_flight.count == 0
    with in_flight.admit(stays):
        assert in_flight.count == 1


def test_bytes_are_bounded_over_all_and_given_back() -> None:
    in_flight = InFlight(9, 100)
    with in_flight.admit(stays) as a, in_flight.admit(stays) as b:
        a.take(60)
        with pytest.raises(Overloaded):
            b.take(41)
        b.take(30)
        with pytest.raises(Overloaded), in_flight.share() as fetched:
            fetched.take(11)
        assert in_flight.bytes == 90
    assert (in_flight.count, in_flight.bytes) == (0, 0)


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets so many seconds pass."""
    now = [100.0]
    monkeypatch.setattr("gateway.in_flight.time.monotonic", lambda: now[0])

    def wait(seconds: float) -> None:
        now[0] += seconds

    return wait


def test_a_body_that_is_slow_to_arrive_gives_way_to_others(wait: Callable[[float], None]) -> None:
    in_flight, ended = InFlight(2, 100), list[str]()
    with in_flight.admit(lambda: ended.append("slow")) as slow, in_flight.admit(stays) as quick:
        slow.take(50)
        wait(0.4)
        with pytest.raises(Overloaded), in_flight.admit(stays):
            raise AssertionError("nobody is late yet")
        quick.arrived(10, more=False)
        wait(60)
        with in_flight.admit(stays) as other:
            assert ended == ["slow"]
            assert (in_flight.count, in_flight.bytes) == (2, 0)
            other.arrived(1, more=False)
            # Those whose bodies are here are being worked on, and stay.
            wait(60)
            with pytest.raises(Overloaded), in_flight.admit(stays):
                raise AssertionError("admitted beyond the limit")
    assert (in_flight.count, in_flight.bytes) == (0, 0)


def test_a_large_body_that_comes_fast_is_not_late(wait: Callable[[float], None]) -> None:
    in_flight = InFlight(1, 10**9)
    with in_flight.admit(stays) as large:
        for _ in range(20):
            wait(1)
            large.arrived(500_000, more=True)
        with pytest.raises(Overloaded), in_flight.admit(stays):
            raise AssertionError("admitted beyond the limit")


def test_the_slowest_go_first_and_no_more_than_needed(wait: Callable[[float], None]) -> None:
    in_flight, ended = InFlight(9, 100), list[int]()

    def admit(number: int) -> AbstractContextManager[Stay]:
        return in_flight.admit(lambda: ended.append(number))

    with admit(0) as first:
        first.take(40)
        wait(1)
        with admit(1) as second, admit(2) as third:
            second.take(40)
            third.take(20)
            wait(1)
            with in_flight.share() as fetched:
                fetched.take(30)
                assert ended == [0]
                fetched.take(30)
                assert len(ended) == 2
    assert (in_flight.count, in_flight.bytes) == (0, 0)
