"""Choose which replicas of Triton serve a variant, and which replica gets the next call.

Replicas need not serve the same models. For each variant, the replicas whose models are equal (shapes, versions,
certificates) form a group, and the gateway uses only the largest group. Ties keep the current group, or else choose the
newest version. So embeddings of different models never mix, and a rolling upgrade switches once, when most replicas
have the new version.
"""

from collections.abc import Iterable

from gateway.encoder import EncoderSpec
from gateway.triton.models import version_number
from gateway.triton.replica import Replica


class Fleet:
    """The replicas, by target. Call `refresh` whenever the state or the specs of a replica change."""

    def __init__(self) -> None:
        self.replicas: dict[str, Replica] = {}
        self.specs: dict[str, EncoderSpec] = {}
        self._groups: dict[str, list[Replica]] = {}
        self._choices = 0

    def refresh(self) -> None:
        """Choose the spec and the group of each variant again."""
        serving = [replica for replica in self.replicas.values() if replica.state == "serving"]
        variants = sorted({variant for replica in serving for variant in replica.specs})
        chosen = {variant: self._largest_group(variant, serving) for variant in variants}
        self.specs = {variant: spec for variant, (spec, _) in chosen.items()}
        self._groups = {variant: group for variant, (_, group) in chosen.items()}

    def choose(self, spec: EncoderSpec, exclude: Replica | None = None) -> Replica | None:
        """Choose the replica with the fewest calls in flight. Ties go to the replica that was chosen longest ago.

        Args:
            spec: the spec that the request began with. Only replicas with an equal spec are candidates.
            exclude: a replica that is not a candidate, because the call failed there.

        Returns:
            None if there is no candidate.
        """
        candidates: Iterable[Replica] = self._groups.get(spec.variant, ())
        if self.specs.get(spec.variant) is not spec:  # the served spec changed after the request began
            candidates = (
                r for r in self.replicas.values() if r.state == "serving" and r.specs.get(spec.variant) == spec
            )
        replica = min((r for r in candidates if r is not exclude), key=lambda r: r.priority, default=None)
        if replica is not None:
            self._choices += 1
            replica.last_chosen = self._choices
        return replica

    def can_replace(self, replica: Replica) -> bool:
        """Whether other replicas serve each spec of this replica."""
        return all(
            any(other.specs.get(variant) == spec for other in self._groups.get(variant, ()) if other is not replica)
            for variant, spec in replica.specs.items()
        )

    def _largest_group(self, variant: str, replicas: Iterable[Replica]) -> tuple[EncoderSpec, list[Replica]]:
        groups: list[tuple[EncoderSpec, list[Replica]]] = []
        for replica in replicas:
            if (spec := replica.specs.get(variant)) is None:
                continue
            group = next((group for group in groups if group[0] == spec), None)
            if group is None:
                groups.append((spec, [replica]))
            else:
                group[1].append(replica)
        current = self.specs.get(variant)
        spec, largest = max(groups, key=lambda group: (len(group[1]), group[0] == current, _versions(group[0])))
        # While the spec is equal, the object stays the same, so that others detect a change by identity.
        return (current if current is not None and current == spec else spec), largest


def _versions(spec: EncoderSpec) -> tuple[int, int]:
    return version_number(spec.vision.version), version_number(spec.text.version)
