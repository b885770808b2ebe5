"""Which of several Tritons serve what, and which of them gets the next call.

Tritons need not serve the same. Of one variant, those whose models are equal (dimensions, versions, certificates) form
a group, and one group alone is served: the largest; of equally large ones the one served so far; else the newest.
So embeddings of two models are never mixed, and a rolling upgrade changes over once, when the new ones prevail.
"""

from collections.abc import Iterable

from gateway.encoder import EncoderSpec
from gateway.triton.models import number
from gateway.triton.replica import Replica


class Fleet:
    """The replicas, by target. ``refresh`` after any of them changed."""

    def __init__(self) -> None:
        self.replicas: dict[str, Replica] = {}
        self.specs: dict[str, EncoderSpec] = {}
        self._serving: dict[str, list[Replica]] = {}
        self._turn = 0

    def refresh(self) -> None:
        """Decides anew what is served, and by whom."""
        useful = [replica for replica in self.replicas.values() if replica.state == "serving"]
        variants = sorted({variant for replica in useful for variant in replica.specs})
        chosen = {variant: self._prevailing(variant, useful) for variant in variants}
        self.specs = {variant: spec for variant, (spec, _) in chosen.items()}
        self._serving = {variant: replicas for variant, (_, replicas) in chosen.items()}

    def choose(self, spec: EncoderSpec, besides: Replica | None = None) -> Replica | None:
        """The one with the fewest calls outstanding of those that serve exactly this; equals take turns."""
        serving: Iterable[Replica] = self._serving.get(spec.variant, ())
        if self.specs.get(spec.variant) is not spec:  # it was, when the request came
            serving = (r for r in self.replicas.values() if r.state == "serving" and r.specs.get(spec.variant) == spec)
        replica = min((r for r in serving if r is not besides), key=lambda r: r.load, default=None)
        if replica is not None:
            self._turn += 1
            replica.turn = self._turn
        return replica

    def can_replace(self, replica: Replica) -> bool:
        """Whether others serve all that this one does."""
        return all(
            any(other.specs.get(variant) == spec for other in self._serving.get(variant, ()) if other is not replica)
            for variant, spec in replica.specs.items()
        )

    def _prevailing(self, variant: str, replicas: Iterable[Replica]) -> tuple[EncoderSpec, list[Replica]]:
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
        spec, serving = max(groups, key=lambda group: (len(group[1]), group[0] == current, _versions(group[0])))
        # The same object while nothing changes, so that others can tell by a glance.
        return (current if current is not None and current == spec else spec), serving


def _versions(spec: EncoderSpec) -> tuple[int, int]:
    return number(spec.vision.version), number(spec.text.version)
