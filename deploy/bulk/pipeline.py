"""From a source through the client to an output: many items at a time, in bounded memory, in the source's order."""

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Final

from deploy.bulk.client import BYTES_AT_ONCE, IMAGES_AT_ONCE, TEXTS_AT_ONCE, Embedder
from deploy.bulk.errors import ItemError
from deploy.bulk.printable import printable
from deploy.bulk.progress import Progress
from deploy.bulk.rows import Output, Row
from deploy.bulk.sources.item import Embeddable, Frames, Item
from deploy.bulk.sources.videos import FRAMES, embeddable

# Groups that are loading, or wait for their first request. Loading from URLs and network disks is slow.
_LOADING: Final = 16
# Groups in memory, most of them in flight. If the server is gone, they wait for it.
_HOLDING: Final = 128
# Groups whose rows wait for the rows of an earlier group. They hold no contents any more.
_WINDOW: Final = 512
_ROWS_AT_ONCE: Final = 8192
_EXAMPLES: Final = 3


@dataclass(slots=True)
class Counts:
    """What a run has done.

    Attributes:
        embedded: rows with an embedding.
        failed: rows with an error.
    """

    embedded: int = 0
    failed: int = 0


class Pipeline:
    """One run.

    Args:
        embedder: entered.
        output: for the rows. They are written when there are 8,192, or when `write_seconds` have passed.
        text: whether items are texts. A request takes more texts than images.
        frames: number of frames that are embedded of each video.

    Attributes:
        counts: what has been written so far.
        errors: id and error of the first rows with one, in one line each.
    """

    def __init__(
        self,
        embedder: Embedder,
        output: Output,
        progress: Progress,
        *,
        write_seconds: float,
        text: bool = False,
        frames: int = FRAMES,
    ) -> None:
        self._embedder = embedder
        self._output = output
        self._progress = progress
        self._write_seconds = write_seconds
        self._frames = frames
        self._at_once = TEXTS_AT_ONCE if text else IMAGES_AT_ONCE
        self._loading = asyncio.Semaphore(_LOADING)
        self._holding = asyncio.Semaphore(_HOLDING)
        self._rows: list[Row] = []
        self._written = time.monotonic()
        self._writing: asyncio.Future[None] | None = None
        self._head: asyncio.Task[list[Row]] | None = None
        self._over = False
        self.counts = Counts()
        self.errors: list[str] = []

    async def run(self, items: Iterable[Item], stop: asyncio.Event) -> None:
        """Embed items and write their rows.

        Args:
            stop: when it is set, requests in flight are cancelled, and complete rows are written.

        Raises:
            BulkError: of the source, the server or the output. Complete rows are written before.
        """
        groups: _Groups = asyncio.Queue(_WINDOW)
        loaders, lister = ThreadPoolExecutor(_LOADING, "load"), ThreadPoolExecutor(1, "list")
        produce = asyncio.create_task(self._produce(iter(items), groups, loaders, lister))
        consume = asyncio.create_task(self._consume(groups))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({consume, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if consume.done():
                await consume
        finally:
            self._over = True
            tasks = [produce, consume, stopping]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._salvage(groups)
            # A thread cannot be cancelled. After an error or a signal, one may wait for the host of a URL.
            for executor in (loaders, lister):
                executor.shutdown(wait=False, cancel_futures=True)

    async def _produce(
        self, items: Iterator[Item], groups: "_Groups", loaders: ThreadPoolExecutor, lister: ThreadPoolExecutor
    ) -> None:
        """Put a task for each group of items into the queue, and at the end None or the error of the source."""
        loop = asyncio.get_running_loop()
        end: Exception | None = None
        try:
            while some := await loop.run_in_executor(lister, _take, items, 8 * self._at_once):
                for start in range(0, len(some), self._at_once):
                    await self._holding.acquire()
                    await self._loading.acquire()
                    group = some[start : start + self._at_once]
                    await groups.put(asyncio.create_task(self._process(group, loaders)))
        except Exception as error:
            end = error
        await groups.put(end)

    async def _process(self, items: Sequence[Item], loaders: ThreadPoolExecutor) -> list[Row]:
        """Load and embed a group. When its first request is sent, another group may begin to load."""
        held = True

        def started() -> None:
            nonlocal held
            if held:
                held = False
                self._loading.release()

        rows: list[Row] = []
        loop = asyncio.get_running_loop()
        try:
            while rest := items[len(rows) :]:
                loaded = await loop.run_in_executor(loaders, self._load, rest)
                contents = [content for content in loaded if not isinstance(content, ItemError)]
                embedded = iter(await self._embedder.embed(contents, started))
                for item, content in zip(rest, loaded, strict=False):
                    found = content if isinstance(content, ItemError) else next(embedded)
                    if isinstance(found, ItemError):
                        rows.append(Row(item.id, None, str(found) or type(found).__name__, item.columns))
                    else:
                        rows.append(Row(item.id, found, None, item.columns))
        finally:
            started()
            self._holding.release()
        return rows

    def _load(self, items: Sequence[Item]) -> list[Embeddable | ItemError]:
        """Load items, from the first one until there are enough bytes for a request."""
        loaded: list[Embeddable | ItemError] = []
        size = 0
        for item in items:
            try:
                content = embeddable(item.load(self._embedder.max_bytes), self._frames, self._embedder.image_size)
                size += sum(map(len, content.files)) if isinstance(content, Frames) else len(content)
                loaded.append(content)
            except ItemError as error:
                loaded.append(error)
            if size >= BYTES_AT_ONCE or self._over:
                break
        return loaded

    async def _consume(self, groups: "_Groups") -> None:
        """Collect the rows of the groups in order, and write them from time to time."""
        while (group := await groups.get()) is not None:
            if isinstance(group, Exception):
                raise group
            self._head = group
            while not group.done():
                left = self._written + self._write_seconds - time.monotonic()
                await asyncio.wait({group}, timeout=max(left, 0) if self._rows else None)
                await self._write_if_due()
            self._add(await group)
            self._head = None
            await self._write_if_due()
        await self._write()

    async def _salvage(self, groups: "_Groups") -> None:
        """Write the rows that are complete, and cancel the groups that are not."""
        tasks = [self._head] if self._head else []
        while not groups.empty():
            if isinstance(group := groups.get_nowait(), asyncio.Task):
                tasks.append(group)
        for task in tasks:
            task.cancel()
        for rows in await asyncio.gather(*tasks, return_exceptions=True):
            if not isinstance(rows, BaseException):
                self._add(rows)
        if self._writing is not None:
            await asyncio.wait({self._writing})
            if self._writing.exception():
                return  # The output is full: it would fail again.
        await self._write()

    def _add(self, rows: list[Row]) -> None:
        self._rows += rows
        errors = [f"{printable(row.id)}: {printable(row.error)}" for row in rows if row.error is not None]
        self.errors += errors[: _EXAMPLES - len(self.errors)]
        self._progress.advance(len(rows), len(errors), self._embedder.client.limit.limit)

    async def _write_if_due(self) -> None:
        if len(self._rows) >= _ROWS_AT_ONCE or time.monotonic() >= self._written + self._write_seconds:
            await self._write()

    async def _write(self) -> None:
        """Write the rows that are complete, in a thread."""
        self._written = time.monotonic()
        rows, self._rows = self._rows, []
        if not rows:
            return
        # A write that has begun ends, even if this coroutine is cancelled: its thread cannot be.
        self._writing = asyncio.ensure_future(asyncio.to_thread(self._output.write, rows))
        await asyncio.shield(self._writing)
        self._writing = None
        self._written = time.monotonic()
        failed = sum(row.error is not None for row in rows)
        self.counts.failed += failed
        self.counts.embedded += len(rows) - failed


_Groups = asyncio.Queue[asyncio.Task[list[Row]] | Exception | None]


def _take(items: Iterator[Item], count: int) -> list[Item]:
    return list(islice(items, count))
