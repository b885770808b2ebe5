"""The requests that both servers get, each in its own interface."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deploy.bench.against.interfaces import Interface
from deploy.bench.harness import photographs

LIST: Final = 8  # the most that the incumbent takes
PROMPTS: Final = ("a photo of a cat", "a photo of a rocket", "a cup of coffee on a table")
# The load generator puts a new text for each request in place of these marks.
SHORT: Final = "@SHORT@"  # 6 tokens, start and end included
# 28 tokens: the shortest context of a variant is 32.
LONG: Final = "@TEXT@ in front of a wide window, with a lake and some clouds in the distance, at dusk"


@dataclass(frozen=True)
class Operation:
    """One kind of request.

    Args:
        name: in the table.
        items: images or texts in a request; 1 for a comparison.
        bodies: path and bodies in an interface. It raises `NotOffered` where the interface has no such request.
        new_texts: whether each request holds texts that no request held before.
        answer: whether the response holds embeddings, one for each item.
    """

    name: str
    items: int
    bodies: Callable[[Interface], list[tuple[str, dict[str, Any]]]]
    new_texts: bool = False
    answer: bool = True


def operations(images: Sequence[bytes]) -> list[Operation]:
    """Return all kinds of requests, with these JPEG files."""
    eight = [images[i % len(images)] for i in range(LIST)]
    return [
        Operation("image, base64", 1, lambda i: [i.images_body([image]) for image in images]),
        Operation(f"list of {LIST} images", LIST, lambda i: [i.images_body(eight)]),
        Operation("new short text", 1, lambda i: [i.texts_body([SHORT])], new_texts=True),
        Operation("new long text", 1, lambda i: [i.texts_body([LONG])], new_texts=True),
        Operation(f"list of {LIST} new texts", LIST, lambda i: [i.texts_body([SHORT] * LIST)], new_texts=True),
        Operation("repeated text", 1, lambda i: [i.texts_body([prompt]) for prompt in PROMPTS]),
        Operation(
            f"image compared with {len(PROMPTS)} texts",
            1,
            lambda i: [i.compare_body(image, PROMPTS) for image in images],
            answer=False,
        ),
    ]


def jpegs() -> tuple[list[bytes], str]:
    """Return photographs of 640x480 as JPEG files, and their source."""
    pictures, source = photographs.photographs()
    return [photographs.jpeg(picture, photographs.SMALL) for picture in pictures], source


def write(bodies: Sequence[tuple[str, dict[str, Any]]], directory: Path) -> tuple[str, list[str]]:
    """Write the bodies of one operation as files for the load generator, and return their path and names."""
    directory.mkdir(parents=True)
    files = []
    for number, (_, body) in enumerate(bodies):
        file = directory / f"{number}.json"
        file.write_text(json.dumps(body))
        files.append(str(file))
    return bodies[0][0], files
