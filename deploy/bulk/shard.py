"""Divide a source among machines, by the ids alone: no machine needs to know what another one does."""

import hashlib
import re
from dataclasses import dataclass
from typing import Self

from deploy.bulk.errors import UsageError


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `count` parts of a source.

    Args:
        number: from 1 to `count`.
    """

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `3/16`.

        Raises:
            UsageError: this is no shard.
        """
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text, re.ASCII)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise UsageError(f"--shard {text}: expected NUMBER/COUNT, from 1/16 to 16/16.")
        return cls(int(found[1]), int(found[2]))

    def __contains__(self, item_id: str) -> bool:
        """Whether the item with this id belongs to this shard."""
        return self.count == 1 or digest(item_id) % self.count == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def digest(item_id: str) -> int:
    """A hash of an id in 64 bits that is the same on every machine."""
    return int.from_bytes(hashlib.blake2b(item_id.encode(), digest_size=8).digest(), "big")
