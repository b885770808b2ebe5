"""Which group of replicas is used, and which replica gets the next call. No Triton is involved."""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pytest

from gateway.encoder import EncoderSpec
from gateway.triton.fleet import Fleet
from gateway.triton.replica import Replica
from tests.fakes import fake_spec

OLD: Final = fake_spec("V")
NEW: Final = replace(OLD, vision=replace(OLD.vision, version="2", certificate={"checkpoint_sha256": "other"}))


@dataclass(eq=False)
class FakeReplica:
    specs: dict[str, EncoderSpec] = field(default_factory=dict)
    state: str = "serving"
    in_flight: int = 0
    last_chosen: int = 0
    cooling_down: bool = False

    @property
    def priority(self) -> tuple[bool, int, int]:
        return (self.cooling_down, self.in_flight, self.last_chosen)


def certificate(digest: str, precision: str = "fp32") -> dict[str, str]:
    return {"checkpoint_sha256": digest, "precision": precision}


def with_weights(spec: EncoderSpec, digest: str) -> EncoderSpec:
    return replace(
        spec,
        vision=replace(spec.vision, certificate=certificate(digest)),
        text=replace(spec.text, certificate=certificate(digest)),
    )


def fleet_of(*replicas: Any) -> Fleet:
    fleet = Fleet()
    fleet.replicas = {str(i): replica for i, replica in enumerate(replicas)}
    fleet.refresh()
    return fleet


def serving(*specs: EncoderSpec, **state: Any) -> Any:
    return FakeReplica({spec.variant: replace(spec) for spec in specs}, **state)


def chosen(fleet: Fleet, spec: EncoderSpec, times: int) -> Counter[Replica | None]:
    return Counter(fleet.choose(spec) for _ in range(times))


def test_replicas_have_use_for_two_batches_of_each_instance() -> None:
    larger = replace(OLD, vision=replace(OLD.vision, max_batch_size=64, instances=3))
    fleet = fleet_of(serving(OLD), serving(larger), serving(with_weights(OLD, "other")))
    assert fleet.room("V", "image") == 2 * OLD.vision.max_batch_size + 2 * 3 * 64
    assert fleet.room("V", "tokens") == 2 * 2 * OLD.text.max_batch_size
    assert fleet.room("W", "image") == 1


class TestChoice:
    def test_ties_go_to_the_replica_chosen_longest_ago(self) -> None:
        a, b, c = (serving(OLD) for _ in range(3))
        fleet = fleet_of(a, b, c)
        assert chosen(fleet, fleet.specs["V"], 30) == {a: 10, b: 10, c: 10}

    def test_the_least_busy_replica_is_chosen(self) -> None:
        a, b = serving(OLD, in_flight=3), serving(OLD, in_flight=1)
        fleet = fleet_of(a, b)
        assert chosen(fleet, fleet.specs["V"], 5) == {b: 5}

    def test_a_replica_that_fails_every_call_is_chosen_last(self) -> None:
        a, b = serving(OLD, cooling_down=True), serving(OLD, in_flight=9)
        fleet = fleet_of(a, b)
        assert fleet.choose(fleet.specs["V"]) is b
        assert fleet.choose(fleet.specs["V"], exclude=b) is a

    @pytest.mark.parametrize("state", ["connecting", "unreachable", "hung"])
    def test_only_serving_replicas_are_chosen(self, state: str) -> None:
        a, b = serving(OLD, state=state), serving(OLD, in_flight=9)
        fleet = fleet_of(a, b)
        assert chosen(fleet, fleet.specs["V"], 3) == {b: 3}
        assert fleet.choose(fleet.specs["V"], exclude=b) is None
        b.state = state
        fleet.refresh()
        assert not fleet.specs
        assert fleet.choose(OLD) is None

    def test_each_variant_has_its_own_replicas(self) -> None:
        other = fake_spec("W")
        a, b = serving(OLD), serving(OLD, other)
        fleet = fleet_of(a, b)
        assert list(fleet.specs) == ["V", "W"]
        assert chosen(fleet, fleet.specs["W"], 4) == {b: 4}
        assert not fleet.can_replace(b)
        assert fleet.can_replace(a)

    def test_only_token_lengths_of_all_replicas_are_used(self) -> None:
        fixed, dynamic = serving(OLD), serving(replace(OLD, token_lengths=(4, 8)))
        fleet = fleet_of(fixed, dynamic)
        assert list(fleet.specs["V"].token_lengths) == [8]
        assert chosen(fleet, fleet.specs["V"], 4) == {fixed: 2, dynamic: 2}
        fixed.specs = dict(dynamic.specs)
        fleet.refresh()
        assert list(fleet.specs["V"].token_lengths) == [4, 8]

    def test_a_request_goes_on_only_where_its_token_lengths_are_accepted(self) -> None:
        fixed, dynamic = serving(OLD), serving(replace(OLD, token_lengths=(4, 8)))
        fleet = fleet_of(dynamic)
        began_with = fleet.specs["V"]
        fleet.replicas["1"] = fixed
        fleet.refresh()
        assert chosen(fleet, began_with, 3) == {dynamic: 3}
        assert fleet.choose(began_with, exclude=dynamic) is None
        assert fleet.can_replace(dynamic)


class TestUpgrade:
    def test_a_rolling_upgrade_switches_once_and_never_mixes_versions(self) -> None:
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
            replicas_used = chosen(fleet, fleet.specs["V"], 12)
            assert all(r is not None and r.specs["V"] == fleet.specs["V"] for r in replicas_used)
        assert seen == ["1", "1", "1", "2", "2", "2"]

    def test_a_tie_keeps_the_current_version(self) -> None:
        a, b = serving(OLD), serving(OLD)
        fleet = fleet_of(a, b)
        a.specs = {"V": NEW}
        fleet.refresh()
        assert fleet.specs["V"] == OLD
        assert chosen(fleet, fleet.specs["V"], 4) == {b: 4}

    def test_a_tie_without_a_current_version_chooses_the_newest(self) -> None:
        for order in ([OLD, NEW], [NEW, OLD]):
            assert fleet_of(*map(serving, order)).specs["V"] == NEW

    def test_a_request_keeps_the_spec_that_it_began_with(self) -> None:
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

    def test_other_versions_precisions_and_batches_of_the_same_weights_are_one_group(self) -> None:
        """As while a repository is exported again, or where two kinds of GPUs have plans of their own."""
        fp32 = with_weights(OLD, "a" * 64)
        fp16 = replace(
            fp32,
            vision=replace(fp32.vision, version="2", max_batch_size=4, certificate=certificate("a" * 64, "fp16")),
            text=replace(fp32.text, max_batch_size=3),
        )
        a, b = serving(fp32), serving(fp16)
        fleet = fleet_of(a, b)
        spec = fleet.specs["V"]
        assert chosen(fleet, spec, 4) == {a: 2, b: 2}
        assert fleet.can_replace(a)
        assert (spec.vision.version, spec.vision.max_batch_size, spec.text.max_batch_size) == ("2", 4, 3)

    def test_other_weights_are_another_group(self) -> None:
        a, b, c = serving(with_weights(OLD, "a")), serving(with_weights(OLD, "b")), serving(with_weights(OLD, "a"))
        fleet = fleet_of(a, b, c)
        assert chosen(fleet, fleet.specs["V"], 6) == {a: 3, c: 3}

    def test_a_request_follows_its_weights_to_a_new_version(self) -> None:
        a = serving(with_weights(OLD, "a"))
        fleet = fleet_of(a)
        began_with = fleet.specs["V"]
        text = replace(began_with.text, version="2")
        a.specs = {"V": replace(began_with, text=text)}
        fleet.refresh()
        assert fleet.choose(began_with) is a

    def test_an_unchanged_spec_stays_the_same_object(self) -> None:
        a, b = serving(OLD), serving(OLD)
        fleet = fleet_of(a, b)
        spec = fleet.specs["V"]
        a.state = "unreachable"
        fleet.refresh()
        assert fleet.specs["V"] is spec
