"""Shards are a partition, the same everywhere."""

from itertools import chain

import pytest

from deploy.bulk.errors import UsageError
from deploy.bulk.shard import Shard

pytestmark = pytest.mark.bulk

IDS = [f"folder/{number}.jpg" for number in range(4000)] + ["", "ü", "\U0001f33b"]


def test_sixteen_shards_are_a_partition_of_about_equal_parts() -> None:
    parts = [[item_id for item_id in IDS if item_id in Shard(number, 16)] for number in range(1, 17)]
    assert sorted(chain(*parts)) == sorted(IDS)
    assert max(map(len, parts)) < 1.3 * min(map(len, parts))


def test_they_are_the_same_in_every_version_and_on_every_machine() -> None:
    # Written down once. Python's own hash differs from run to run.
    assert [number for number in range(1, 17) if "folder/7.jpg" in Shard(number, 16)] == [15]
    assert [number for number in range(1, 4) if "ü" in Shard(number, 3)] == [1]


def test_all_of_the_source_by_default() -> None:
    assert all(item_id in Shard() for item_id in IDS)
    assert str(Shard.parse("1/1")) == str(Shard()) == "1/1"


@pytest.mark.parametrize(
    "text", ["", "3", "0/16", "17/16", "3/0", "-1/16", "3/16/2", "a/b", "1/16 ", "１/16", "1/1000000000"]
)
def test_what_is_no_shard(text: str) -> None:
    with pytest.raises(UsageError, match="from 1/16 to 16/16"):
        Shard.parse(text)
