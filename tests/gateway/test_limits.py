import pytest

from gateway.errors import Overloaded
from gateway.limits import InFlight


def test_a_place_is_free_again_after_any_ending() -> None:
    in_flight = InFlight(1)
    with in_flight.admit(), pytest.raises(Overloaded), in_flight.admit():
        raise AssertionError("admitted beyond the limit")
    with pytest.raises(RuntimeError), in_flight.admit():
        raise RuntimeError
    assert in_flight.count == 0
    with in_flight.admit():
        assert in_flight.count == 1
