"""Who is served, and who gets the next call; without any Triton, since that is arithmetic."""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from gateway.encoder import EncoderSpec
from gateway.triton.fleet import Fleet
from gateway.triton.replica import Replica
from tests.fakes import fake_spec

OLD = fake_spec("V")
NEW = replace(OLD, vision=replace(OLD.vision, version="2", certificate={"checkpoint_sha256": "other"}))


@dataclass(eq=False)
class FakeReplica:
    specs: dict[str, EncoderSpec] = field(default_factory=dict)
    state: str = "serving"
    outstanding: int = 0
    turn: int = 0
    rests: bool = False

    @property
    def load(self) -> tuple[bool, int, int]:
        return (self.rests, self.outstanding, self.turn)


def fleet_of(*replicas: Any) -> Fleet:
    fleet = Fleet()
    fleet.replicas = {str(i): replica for i, replica in enumerate(replicas)}
    fleet.refresh()
    return fleet


def serving(*specs: EncoderSpec, **state: Any) -> Any:
    return FakeReplica({spec.variant: replace(spec) for spec in specs}, **state)


def chosen(fleet: Fleet, spec: EncoderSpec, times: int) -> Counter[Replica | None]:
    return Counter(fleet.choose(spec) for _ in range(times))


class TestChoice:
    def test_equals_take_turns(self) -> None:
        a, b, c = (serving(OLD) for _ in range(3))
        fleet = fleet_of(a, b, c)
        assert chosen(fleet, fleet.specs["V"], 30) == {a: 10, b: 10, c: 10}

    def test_the_least_busy_first(self) -> None:
        a, b = serving(OLD, outstanding=3), serving(OLD, outstanding=1)
        fleet = fleet_of(a, b)
        assert chosen(fleet, fleet.specs["V"], 5) == {b: 5}

    def test_one_that_fails_all_calls_waits_for_the_others(self) -> None:
        a, b = serving(OLD, rests=True), serving(OLD, outstanding=9)
        fleet = fleet_of(a, b)
        assert fleet.choose(fleet.specs["V"]) is b
        assert fleet.choose(fleet.specs["V"], besides=b) is a

    @pytest.mark.parametrize("state", ["connecting", "unreachable", "hung"])
    def test_only_what_serves(self, state: str) -> None:
        a, b = serving(OLD, state=state), serving(OLD, outstanding=9)
        fleet = fleet_of(a, b)
        assert chosen(fleet, fleet.specs["V"], 3) == {b: 3}
        assert fleet.choose(fleet.specs["V"], besides=b) is None
        b.state = state
        fleet.refresh()
        assert not fleet.specs
        assert fleet.choose(OLD) is None

    def test_each_variant_by_those_that_have_it(self) -> None:
        other = fake_spec("W")
        a, b = serving(OLD), serving(OLD, other)
        fleet = fleet_of(a, b)
        assert list(fleet.specs) == ["V", "W"]
        assert chosen(fleet, fleet.specs["W"], 4) == {b: 4}
        assert not fleet.can_replace(b)
        assert fleet.can_replace(a)


class TestUpgrade:
    def test_one_after_the_other_changes_over_once_and_never_mixes(self) -> None:
        replicas = [serving(OLD) for _ in range(3)]
        fleet = fleet_of(*replicas)
        seen = []
        for replica in replicas:
            replica.state = "unreachable"
            fleet.refresh()
            seen.append(fleet.specs["V"].vision.version)
            replica.state, replica.specs = "serving", {"V": replace(NEW)}
            fleet.refresh()
            seen.append(fleet.specs["V"].vision.version)
            by = chosen(fleet, fleet.specs["V"], 12)
            assert all(r is not None and r.specs["V"] == fleet.specs["V"] for r in by)
        assert seen == ["1", "1", "1", "2", "2", "2"]

    def test_two_of_which_one_is_new_stay_with_the_old(self) -> None:
        a, b = serving(OLD), serving(OLD)
        fleet = fleet_of(a, b)
        a.specs = {"V": NEW}
        fleet.refresh()
        assert fleet.specs["V"] == OLD
        assert chosen(fleet, fleet.specs["V"], 4) == {b: 4}

    def test_with_nothing_served_so_far_the_newest_of_equals(self) -> None:
        for order in ([OLD, NEW], [NEW, OLD]):
            assert fleet_of(*map(serving, order)).specs["V"] == NEW

    def test_a_request_under_way_stays_with_what_it_began_with(self) -> None:
        a, b, c = serving(OLD), serving(NEW), serving(OLD)
        fleet = fleet_of(a, b, c)
        began_with = fleet.specs["V"]
        c.specs = {"V": NEW}
        fleet.refresh()
        assert fleet.specs["V"] == NEW
        assert fleet.choose(began_with) == a
        a.specs = {"V": NEW}
        fleet.refresh()
        assert fleet.choose(began_with) is None

    def test_the_same_object_while_nothing_changes(self) -> None:
        a, b = serving(OLD), serving(OLD)
        fleet = fleet_of(a, b)
        spec = fleet.specs["V"]
        a.state = "unreachable"
        fleet.refresh()
        assert fleet.specs["V"] is spec
