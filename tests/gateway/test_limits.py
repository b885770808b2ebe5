import pytest

from gateway.errors import Overloaded
from gateway.limits import InFlight


def test_a_place_is_free_again_after_any_ending() -> None:
    in_flight = InFlight(1, 100)
    with in_flight.admit(), pytest.raises(Overloaded), in_flight.admit():
        raise AssertionError("admitted beyond the limit")
    with pytest.raises(RuntimeError), in_flight.admit():
        raise RuntimeError
    assert in_flight.count == 0
    with in_flight.admit():
        assert in_flight.count == 1


def test_bytes_are_bounded_over_all_and_given_back() -> None:
    in_flight = InFlight(9, 100)
    with in_flight.admit() as a, in_flight.admit() as b:
        a.take(60)
        with pytest.raises(Overloaded):
            b.take(41)
        b.take(30)
        with pytest.raises(Overloaded), in_flight.share() as fetched:
            fetched.take(11)
        assert in_flight.bytes == 90
    assert (in_flight.count, in_flight.bytes) == (0, 0)
