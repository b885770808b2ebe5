"""`pe-search`: find the pictures or texts that are most similar to a text or a picture."""

import argparse
import asyncio
import math
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from deploy.bulk.client import Embedder
from deploy.bulk.errors import BulkError, ItemError, ServerError, UsageError
from deploy.bulk.search.match import Match
from deploy.bulk.search.place import Place, open_place
from deploy.bulk.search.show import as_json, as_table
from deploy.bulk.sources.item import Embeddable, Video
from deploy.bulk.sources.listed import of_value
from deploy.bulk.sources.videos import FRAMES

_DESCRIPTION: Final = """\
Find what is most similar to a text or a picture, among embeddings that pe-embed wrote.

The query is embedded by a Perception Encoder Server, which must have the variant and the weights of the embeddings."""
_URL: Final = "http://127.0.0.1:9001"
_EPILOG: Final = """\
exit status: 0 the search ran, even if nothing matches; 1 the server, or the place that is searched, failed; 2 wrong
arguments"""
_GIVE_UP_SECONDS: Final = 30.0
_MAX_TOP: Final = 10_000


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit status."""
    arguments = _parser().parse_args(argv)
    try:
        query = _query(arguments)
        place = open_place(arguments.place)
        try:
            matches = asyncio.run(_run(arguments, place, query))
        finally:
            place.close()
    except UsageError as error:
        return _fail(str(error), 2)
    except BulkError as error:
        return _fail(str(error), 1)
    except KeyboardInterrupt:
        return 130
    print(as_table(matches) if arguments.format == "table" else as_json(query, place.space, matches))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "pe-search", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("text", nargs="?", metavar="TEXT", help="what to search for, in words")
    add("--image", metavar="FILE", help="what to search for, as a picture or a video, or its URL")
    add(
        "--in",
        dest="place",
        required=True,
        metavar="PLACE",
        help="lancedb:PATH[#TABLE], postgresql://USER@HOST/DATABASE?table=NAME, FILE.parquet or FILE.npy",
    )
    add("--top", type=_count, default=10, metavar="N", help="show so many, at most (default: %(default)s)")
    add("--min-similarity", type=_cosine, metavar="COSINE", help="leave out what is less similar, from -1 to 1")
    add(
        "--where",
        metavar="SQL",
        help="search only rows for which this is true, as in \"folder = 'cats' AND size > 10\"",
    )
    add("--format", choices=("table", "json"), default="table", help="of the answer (default: %(default)s)")
    add("--url", default=os.environ.get("PE_URL", _URL), help=f"the server (default: PE_URL, else {_URL})")
    add("--api-key", default=os.environ.get("PE_API_KEY"), help="if the server wants one (default: PE_API_KEY)")
    return parser


def _count(value: str) -> int:
    if not (value.isdecimal() and 1 <= int(value) <= _MAX_TOP):
        raise argparse.ArgumentTypeError(f"{value} is not a whole number from 1 to {_MAX_TOP}")
    return int(value)


def _cosine(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not -1 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{value} is not a number from -1 to 1")
    return number


def _query(arguments: Namespace) -> dict[str, str]:
    """What is searched for: a text or an image."""
    given = {kind: value for kind in ("text", "image") if (value := getattr(arguments, kind)) is not None}
    if len(given) != 1:
        raise UsageError("Search for either a TEXT or an --image FILE.")
    if not next(iter(given.values())).strip():
        raise UsageError("The query is empty.")
    if arguments.where is not None and not arguments.where.strip():
        raise UsageError("--where is empty. Expected an SQL expression.")
    return given


async def _run(arguments: Namespace, place: Place, query: dict[str, str]) -> list[Match]:
    variant = place.space.name.rpartition("@")[0]
    async with Embedder(
        arguments.url, api_key=arguments.api_key, variant=variant, give_up_seconds=_GIVE_UP_SECONDS
    ) as embedder:
        if embedder.space != place.space:
            raise ServerError(
                f"The embeddings are of {place.space.name}, and {embedder.client.url} serves {embedder.space.name}. "
                f"The two cannot be compared. Use a server of {place.space.name}, or embed again with pe-embed."
            )
        content = query["text"] if "text" in query else await asyncio.to_thread(_read, query["image"], embedder)
        (embedding,) = await embedder.embed([content])
    if isinstance(embedding, ItemError):
        raise UsageError(f"The query has no embedding: {embedding}")
    matches = place.search(embedding, arguments.top, arguments.where)
    return [m for m in matches if arguments.min_similarity is None or m.similarity >= arguments.min_similarity]


def _read(value: str, embedder: Embedder) -> Embeddable:
    """Read the image file or the frames of the video at a path or URL."""
    try:
        content = of_value(value, Path(), embedder.max_bytes)
        if not isinstance(content, Video):
            return content
        from deploy.bulk import video  # FFmpeg takes a second to load

        with content.file as file:
            return video.read_frames(file, FRAMES, embedder.image_size)
    except ItemError as error:
        raise UsageError(f"--image {value}: {error}") from None


def _fail(message: str, status: int) -> int:
    print(f"pe-search: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
