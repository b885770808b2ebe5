"""`pe-embed`: embed a folder, a list, a table or tar files, and write the embeddings to a file or a database."""

import argparse
import asyncio
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Final

from deploy.bulk.client import Embedder
from deploy.bulk.errors import BulkError, UsageError
from deploy.bulk.outputs.registry import check_destination, open_output, without_password
from deploy.bulk.outputs.table_columns import OWN
from deploy.bulk.pipeline import Counts, Pipeline
from deploy.bulk.plan import Plan, read_ids
from deploy.bulk.progress import Progress
from deploy.bulk.rows import Run
from deploy.bulk.shard import Shard
from deploy.bulk.sources.item import Source
from deploy.bulk.sources.opening import open_source
from deploy.bulk.sources.videos import FRAMES

_DESCRIPTION: Final = """\
Embed pictures or texts by a Perception Encoder Server, and write the embeddings to a file or a database.

SOURCE is a folder; pictures, or their URLs; a list of paths or URLs, one a line (FILE.txt, or - for the standard
input); a column of a table (FILE.parquet, FILE.csv, FILE.tsv); or WebDataset tar files.

What cannot be embedded gets a row with its error. A run that was stopped or killed continues with the same command."""
_URL: Final = "http://127.0.0.1:9001"
_EPILOG: Final = """\
exit status: 0 done, though some rows may have errors; 1 every row has an error, or the server or the output failed;
2 wrong arguments; 130 stopped by Ctrl-C, 143 by SIGTERM"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit status."""
    arguments = _parser().parse_args(argv)
    try:
        check_destination(arguments)
        shard = Shard.parse(arguments.shard)
        if arguments.remove_gone and shard.count > 1:
            raise UsageError("--remove-gone needs the whole source, so it cannot be used with --shard.")
        source = open_source(arguments)
        return asyncio.run(_run(arguments, source, read_ids(source, shard), shard))
    except UsageError as error:
        return _fail(str(error), 2)
    except BulkError as error:
        return _fail(str(error), 1)
    except KeyboardInterrupt:
        return _fail("Stopped before anything was written.", 130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "pe-embed", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("source", nargs="+", metavar="SOURCE", help="what to embed")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", metavar="FILE", help="FILE.parquet, or FILE.npy with FILE.ids.parquet beside it")
    where.add_argument(
        "--into", metavar="DATABASE", help="lancedb:PATH[#TABLE], or postgresql://USER@HOST/NAME?table=NAME"
    )
    add("--url", default=os.environ.get("PE_URL", _URL), help=f"the server (default: PE_URL, else {_URL})")
    add("--api-key", default=os.environ.get("PE_API_KEY"), help="if the server wants one (default: PE_API_KEY)")
    add("--variant", help="if the server serves several")
    add("--text", action="store_true", help="embed texts: lines of a list, a column, or .txt files")
    add("--column", help="of a table: pictures, paths, URLs or texts")
    add("--id-column", help="of a table: unique names (default: the values; for pictures in the table, row numbers)")
    add("--columns", type=_names, default=[], metavar="A,B", help="keep these columns; of tar files, these extensions")
    add("--root", default=".", help="the folder in which relative paths of a list or a table begin (default: this one)")
    add("--all-files", action="store_true", help="of a folder: send all files, not only those with a picture's name")
    add("--frames", type=_count, default=FRAMES, metavar="N", help="of each video, at equal distances (default: 8)")
    add("--dtype", choices=("float32", "float16"), default="float32", help="of the embeddings (default: %(default)s)")
    add(
        "--shard",
        default="1/1",
        metavar="K/N",
        help="embed the K-th of N parts, from 1/N to N/N; the same on all machines",
    )
    add("--retry-failed", action="store_true", help="try rows with an error again")
    add("--remove-gone", action="store_true", help="remove rows whose id the source does not have any more")
    add("--give-up", type=_positive, default=5.0, metavar="MINUTES", help="without an embedding (default: %(default)g)")
    add(
        "--write-every",
        type=_positive,
        default=20.0,
        metavar="SECONDS",
        help="what a kill can lose (default: %(default)g)",
    )
    return parser


def _names(value: str) -> list[str]:
    names = [name for name in value.split(",") if name]
    if taken := [name for name in names if name in OWN]:
        raise argparse.ArgumentTypeError(f"every output has a column {taken[0]!r} of its own")
    return names


def _count(value: str) -> int:
    if not (value.isdecimal() and int(value)):
        raise argparse.ArgumentTypeError(f"{value} is not a whole number above 0")
    return int(value)


def _positive(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = 0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{value} is not a number above 0")
    return number


async def _run(arguments: Namespace, source: Source, ids: set[str], shard: Shard) -> int:
    say = _Say()
    async with Embedder(
        arguments.url,
        api_key=arguments.api_key,
        variant=arguments.variant,
        give_up_seconds=60 * arguments.give_up,
        say=say,
    ) as embedder:
        frames = "" if arguments.frames == FRAMES else f", {arguments.frames} frames of each video"
        run = Run(embedder.space, arguments.dtype, source.description + frames, str(shard))
        output = open_output(arguments, run)
        done = ids.intersection(output.finished())
        failed = set() if arguments.retry_failed else ids.intersection(output.failed())
        before = Counts(len(done), len(failed))
        todo = Plan(source, ids, done.union(failed))
        _announce(source, len(todo.ids), len(todo.done), embedder)
        progress = say.progress = Progress(len(todo.ids), len(todo.done))
        pipeline = Pipeline(
            embedder,
            output,
            progress,
            write_seconds=arguments.write_every,
            text=arguments.text,
            frames=arguments.frames,
        )
        try:
            stopped_by = await _run_until_signal(pipeline, todo)
        finally:
            rate = progress.rate
            progress.close()
        if stopped_by:
            written = pipeline.counts.embedded + pipeline.counts.failed
            say(f"Stopped: {len(todo.done) + written} of {len(todo.ids)} rows are kept. The same command continues.")
            sys.stderr.flush()
            os._exit(128 + stopped_by)  # without the threads that still load
        removed = output.remove_others(todo.ids) if arguments.remove_gone else 0
        await asyncio.to_thread(output.close)
    _summarize(arguments, pipeline, before, removed, rate)
    return 1 if (pipeline.counts.failed or before.failed) and not (pipeline.counts.embedded or before.embedded) else 0


async def _run_until_signal(pipeline: Pipeline, todo: Plan) -> int:
    """Embed what there is to do. The first signal stops in order, and the second one at once.

    Returns:
        The signal that stopped the run; 0 if none did.
    """
    stop = asyncio.Event()
    received: list[int] = []

    def note(signum: int) -> None:
        if received:
            os._exit(128 + signum)
        received.append(signum)
        stop.set()

    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, note, signum)
    await pipeline.run(todo.items(), stop)
    return received[0] if received else 0


def _announce(source: Source, total: int, done: int, embedder: Embedder) -> None:
    before = f", {done} of them done before" if done else ""
    print(f"{total} {source.description}{before}; {embedder.client.url} serves {embedder.space.name}", file=sys.stderr)
    for what, why in (
        ("skipped", "files, which are no pictures by their names. --all-files sends them, too."),
        ("repeated", "lines, which repeat an earlier line."),
    ):
        if count := getattr(source, what, 0):
            print(f"Left out: {count} of the {why}", file=sys.stderr)


def _summarize(arguments: Namespace, pipeline: Pipeline, before: Counts, removed: int, rate: float) -> None:
    counts = pipeline.counts
    errors = f", {counts.failed} rows with an error" if counts.failed else ""
    done = before.embedded + before.failed
    earlier = f", {done} done before" if done else ""
    gone = f", {removed} removed" if removed else ""
    where = arguments.out or without_password(arguments.into)
    print(f"{counts.embedded} embeddings{errors}{earlier}{gone}, {rate:.1f}/s: {where}", file=sys.stderr)
    for line in pipeline.errors:
        print(f"  {line}", file=sys.stderr)
    if more := counts.failed - len(pipeline.errors):
        print(f"  {more} more: the column `error` has all of them.", file=sys.stderr)
    if before.failed:
        print(f"{before.failed} rows have an error from before. --retry-failed tries them again.", file=sys.stderr)


class _Say:
    """Write a line for the user, above the bar if there is one."""

    progress: Progress | None = None

    def __call__(self, line: str) -> None:
        if self.progress is not None:
            self.progress.say(line)
        else:
            print(line, file=sys.stderr)


def _fail(message: str, status: int) -> int:
    print(f"pe-embed: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
