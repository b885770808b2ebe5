"""What there is to do, before anything is embedded."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from deploy.bulk.errors import UsageError
from deploy.bulk.shard import Shard
from deploy.bulk.sources.item import Item, Source


@dataclass(frozen=True, slots=True)
class Plan:
    """The items of a run.

    Args:
        source: of all items.
        ids: of this shard.
        done: the ids among them that need no work: they have an embedding, or an error that is not to be tried again.
    """

    source: Source
    ids: Collection[str]
    done: Collection[str]

    def items(self) -> Iterator[Item]:
        """Iterate over the items to embed. One that appeared in the source after the plan was made is left out."""
        return (item for item in self.source if item.id in self.ids and item.id not in self.done)


def read_ids(source: Source, shard: Shard) -> set[str]:
    """Read all ids of a source, and return those of a shard.

    Raises:
        UsageError: two items have the same id, or there are none.
    """
    ids: set[str] = set()
    empty = True
    for item_id in source.ids():
        empty = False
        if item_id in shard:
            if item_id in ids:
                raise UsageError(
                    f"The id {item_id!r} occurs twice in the {source.description}. Each row needs an id of its own: "
                    "rename one, or name a column of unique values with --id-column."
                )
            ids.add(item_id)
    if empty:
        skipped = getattr(source, "skipped", 0)
        hint = f" {skipped} other files are there: --all-files sends them, too." if skipped else ""
        raise UsageError(f"There are no {source.description}.{hint}")
    return ids
