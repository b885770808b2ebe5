"""The reader, the client and the rows of `pe-embed` as stages of a Ray dataset, for more than one machine.

    rows = ray_data.embed(ray_data.read(Folder(Path("/data/pictures"))), "http://gateway:9001", actors=2)
    rows.write_parquet("/data/embeddings")

Ray gives the batch of a lost actor to another one, and the rows of a batch exist only when all of them do. So each item
has exactly one row.
"""

import asyncio
import io
import pickle
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import ray.data

from deploy.bulk.client import Embedder
from deploy.bulk.errors import SpaceChanged
from deploy.bulk.outputs.parts import table_of
from deploy.bulk.pipeline import Pipeline
from deploy.bulk.progress import Progress
from deploy.bulk.rows import Dtype, EmbeddingSpace, Row, Run
from deploy.bulk.shard import Shard
from deploy.bulk.sources.item import Item, Source
from deploy.bulk.sources.videos import FRAMES

BATCH: Final = 256
"""Items of one call of an actor. The last requests of a call leave the server partly idle, so few are slow."""
_ITEM: Final = "item"


def read(source: Source, *, blocks: int = 16) -> ray.data.Dataset:
    """Read a source on all machines: each task reads the items of one shard.

    Args:
        source: a source of `pe-embed`, whose path means the same on all machines.
        blocks: how many tasks.

    Returns:
        A dataset with the column `item`: pickled items, without the contents of files.
    """
    shards = ray.data.range(blocks, override_num_blocks=blocks)
    return shards.map_batches(_Reader(source, blocks), batch_size=1)


def embed(
    items: ray.data.Dataset,
    url: str,
    *,
    actors: int,
    batch_size: int = BATCH,
    api_key: str | None = None,
    variant: str | None = None,
    dtype: Dtype = "float32",
    frames: int = FRAMES,
    give_up_seconds: float = 300,
) -> ray.data.Dataset:
    """Embed the items of `read` by `actors` processes, each with a client of its own.

    Args:
        url: of the gateway, as all machines reach it.
        frames: of a video.
        others: as for `Embedder`.

    Returns:
        A dataset with the columns `id`, `embedding` (a list of D), `error`, and those of the source.

    Raises:
        ServerError: the server cannot be used.
    """
    options = {"api_key": api_key, "variant": variant, "give_up_seconds": give_up_seconds}
    return items.map_batches(
        Embed,
        fn_constructor_args=(url, asyncio.run(_space(url, options)), dtype, frames, options),
        batch_size=batch_size,
        batch_format="pyarrow",
        concurrency=actors,
    )


class Embed:
    """The actor of `embed`, for `map_batches`. Its arguments are those of `embed`, and the space of all actors."""

    def __init__(self, url: str, space: EmbeddingSpace, dtype: Dtype, frames: int, options: dict[str, Any]) -> None:
        self._frames = frames
        self._run = Run(space, dtype, "a Ray dataset", "1/1")
        self._loop = asyncio.Runner()
        self._embedder = Embedder(url, **options)
        self._loop.run(self._embedder.__aenter__())
        if self._embedder.space != space:
            raise SpaceChanged(
                f"The run began with embeddings of {space.name}, and {url} now serves {self._embedder.space.name}: "
                "they cannot be compared."
            )

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Embed a batch. Returns its rows, in order.

        Raises:
            ServerError: as for `Embedder.embed`.
        """
        items: list[Item] = [pickle.loads(item) for item in batch.column(_ITEM).to_pylist()]
        rows = _Rows()
        silent = Progress(len(items), 0, io.StringIO())
        pipeline = Pipeline(self._embedder, rows, silent, write_seconds=60, frames=self._frames)
        self._loop.run(_finish(pipeline, items))
        return table_of(rows.rows, self._run)


class _Reader:
    """Reads one shard of a source."""

    def __init__(self, source: Source, count: int) -> None:
        self._source = source
        self._count = count

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        shard = Shard(int(batch["id"][0]) + 1, self._count)
        items = [pickle.dumps(item) for item in self._source if item.id in shard]
        return {_ITEM: np.array(items, object)}


class _Rows:
    """An `Output` in memory."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def finished(self) -> Sequence[str]:
        return ()

    def failed(self) -> Sequence[str]:
        return ()

    def write(self, rows: Sequence[Row]) -> None:
        self.rows += rows

    def remove_others(self, ids: object) -> int:
        return 0

    def close(self) -> None:
        pass


async def _finish(pipeline: Pipeline, items: Sequence[Item]) -> None:
    await pipeline.run(items, asyncio.Event())


async def _space(url: str, options: dict[str, Any]) -> EmbeddingSpace:
    async with Embedder(url, **options) as embedder:
        return embedder.space
