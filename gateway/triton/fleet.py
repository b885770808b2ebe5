"""Choose which replicas of Triton serve a variant, and which replica gets the next call.

Replicas need not serve the same models. For each variant, the replicas whose embedding spaces are equal form a group,
and the gateway uses only the largest group. Ties keep the current group, or else choose the newest version. So
embeddings of different weights never mix, and an upgrade to other weights switches once, when most replicas have them.
Replicas of one group may differ in version, engine, precision and batch size.
"""

from collections.abc import Hashable, Iterable
from dataclasses import replace
from typing import Final

from gateway.encoder import EncoderSpec, TowerSpec
from gateway.triton.models import InputName, version_number
from gateway.triton.replica import Replica

# Batches that an instance of a model has use for: one that it runs, and one that waits.
_BATCHES_OF_AN_INSTANCE: Final = 2


class Fleet:
    """The replicas, by target. Call `refresh` whenever the state or the specs of a replica change."""

    def __init__(self) -> None:
        self.replicas: dict[str, Replica] = {}
        self.specs: dict[str, EncoderSpec] = {}
        self._groups: dict[str, list[Replica]] = {}
        self._rooms: dict[tuple[str, InputName], int] = {}
        self._choices = 0

    def refresh(self) -> None:
        """Choose the spec and the group of each variant again."""
        serving = [replica for replica in self.replicas.values() if replica.state == "serving"]
        variants = sorted({variant for replica in serving for variant in replica.specs})
        chosen = {variant: self._largest_group(variant, serving) for variant in variants}
        self.specs = {variant: spec for variant, (spec, _) in chosen.items()}
        self._groups = {variant: group for variant, (_, group) in chosen.items()}
        self._rooms.clear()
        for variant, group in self._groups.items():
            specs = [replica.specs[variant] for replica in group]
            self._rooms[variant, "image"] = sum(_room(spec.vision) for spec in specs)
            self._rooms[variant, "tokens"] = sum(_room(spec.text) for spec in specs)

    def room(self, variant: str, name: InputName) -> int:
        """The images or texts that the replicas of a variant have use for at once; 1 if there is no replica."""
        return self._rooms.get((variant, name), 1)

    def choose(self, spec: EncoderSpec, exclude: Replica | None = None) -> Replica | None:
        """Choose the replica with the fewest calls in flight. Ties go to the replica that was chosen longest ago.

        Args:
            spec: the spec that the request began with. Only replicas with its embedding space and its token lengths are
                candidates.
            exclude: a replica that is not a candidate, because the call failed there.

        Returns:
            None if there is no candidate.
        """
        candidates: Iterable[Replica] = self._groups.get(spec.variant, ())
        if self.specs.get(spec.variant) is not spec:  # the served spec changed after the request began
            candidates = (r for r in self.replicas.values() if r.state == "serving" and _accepts(r, spec))
        replica = min((r for r in candidates if r is not exclude), key=lambda r: r.priority, default=None)
        if replica is not None:
            self._choices += 1
            replica.last_chosen = self._choices
        return replica

    def can_replace(self, replica: Replica) -> bool:
        """Whether other replicas serve each spec of this replica."""
        return all(
            any(other is not replica and _serves(other, spec) for other in self._groups.get(variant, ()))
            for variant, spec in replica.specs.items()
        )

    def _largest_group(self, variant: str, replicas: Iterable[Replica]) -> tuple[EncoderSpec, list[Replica]]:
        """Choose the replicas that serve a variant, and describe them by one spec."""
        groups: dict[Hashable, list[Replica]] = {}
        for replica in replicas:
            if (spec := replica.specs.get(variant)) is not None:
                groups.setdefault(spec.space, []).append(replica)
        current = self.specs.get(variant)
        largest = max(
            groups.values(),
            key=lambda group: (
                len(group),
                current is not None and group[0].specs[variant].space == current.space,
                max(_versions(replica.specs[variant]) for replica in group),
            ),
        )
        return self._common_spec([replica.specs[variant] for replica in largest], current), largest

    def _common_spec(self, specs: list[EncoderSpec], current: EncoderSpec | None) -> EncoderSpec:
        """Describe a group by its newest version, with batches and token lengths that every replica accepts."""
        newest = max(specs, key=_versions)
        vision, text = (
            replace(tower, max_batch_size=min(getattr(spec, name).max_batch_size for spec in specs))
            for name, tower in (("vision", newest.vision), ("text", newest.text))
        )
        lengths = set.intersection(*(set(spec.token_lengths) for spec in specs))  # The context length is in all.
        spec = replace(newest, token_lengths=tuple(sorted(lengths)), vision=vision, text=text)
        # While the spec is equal, the object stays the same, so that others detect a change by identity.
        return current if current is not None and current == spec else spec


def _room(tower: TowerSpec) -> int:
    return _BATCHES_OF_AN_INSTANCE * tower.instances * tower.max_batch_size


def _serves(replica: Replica, spec: EncoderSpec) -> bool:
    served = replica.specs.get(spec.variant)
    return served is not None and served.space == spec.space


def _accepts(replica: Replica, spec: EncoderSpec) -> bool:
    served = replica.specs.get(spec.variant)
    return served is not None and served.accepts(spec)


def _versions(spec: EncoderSpec) -> tuple[int, int]:
    return version_number(spec.vision.version), version_number(spec.text.version)
