"""The bodies to send: files for the load generator, and tensors for perf_analyzer."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import numpy as np

from deploy.bench.harness import client, load_generator, photographs
from deploy.bench.harness.stack import Stack
from deploy.bench.speed import inputs

# Forms of new texts, by their number of tokens. Start token, end token and `@SHORT@` are six of them.
LENGTHS: Final = {8: "one @SHORT@ here", 32: "@SHORT@" + " and one more" * 8 + " here too"}
PROMPTS: Final = ("a photo of a cat", "a photo of a rocket", "a cup of coffee on a table")


@dataclass(frozen=True)
class Payload:
    """One kind of request."""

    path: str
    files: list[Path]  # bodies, sent in turn
    kind: str = client.JSON
    items: int = 1  # images or texts in one request
    new_texts: bool = False  # a new text in place of `@TEXT@` or `@SHORT@` in each request


@dataclass(frozen=True)
class Payloads:
    """All that is sent."""

    http: dict[str, Payload]  # by name
    images: Path  # tensors for perf_analyzer
    texts: Path  # tensors for perf_analyzer
    tokens: Path  # of one text, little-endian int32
    small: list[Path]  # JPEG files of 640x480
    large: list[Path]  # JPEG files of 12 megapixels
    source: str  # of the pictures


def write(stack: Stack, directory: Path) -> Payloads:
    """Write all files below `directory`, for the variant of the stack."""
    images, source = photographs.photographs()
    small = [_put(directory / f"small-{i}.jpg", photographs.jpeg(p, photographs.SMALL)) for i, p in enumerate(images)]
    large = [
        _put(directory / f"large-{i}.jpg", photographs.jpeg(p, photographs.LARGE)) for i, p in enumerate(images[:2])
    ]
    variant = {"perception_encoder_version_id": stack.variant}
    encoded, encoded_large = ([client.image_json(file.read_bytes()) for file in files] for files in (small, large))

    def body(name: str, **fields: Any) -> Path:
        return _put(directory / f"{name}.json", json.dumps({**variant, **fields}).encode())

    def many(count: int) -> list[dict[str, str]]:
        return [encoded[i % len(encoded)] for i in range(count)]

    raw = f"{client.IMAGE}?perception_encoder_version_id={quote(stack.variant)}"
    new = [body("text", text="@TEXT@")]
    repeated = [body(f"prompt-{i}", text=prompt) for i, prompt in enumerate(PROMPTS)]
    compared = [body(f"compare-{i}", subject=one, prompt=list(PROMPTS)) for i, one in enumerate(encoded)]
    http = {
        "image base64": Payload(client.IMAGE, [body(f"image-{i}", image=one) for i, one in enumerate(encoded)]),
        "image raw": Payload(raw, small, "image/jpeg"),
        "image 12 MP": Payload(client.IMAGE, [body(f"large-{i}", image=one) for i, one in enumerate(encoded_large)]),
        "list of 8": Payload(client.IMAGE, [body("list-8", image=many(8))], items=8),
        "list of 32": Payload(client.IMAGE, [body("list-32", image=many(32))], items=32),
        "compare": Payload(client.COMPARE, compared),
        "text new": Payload(client.TEXT, new, new_texts=True),
        "text repeated": Payload(client.TEXT, repeated),
        **{
            f"text of {count} tokens": Payload(client.TEXT, [body(f"text-{count}", text=text)], new_texts=True)
            for count, text in LENGTHS.items()
        },
        "bare ready": Payload("/ready", repeated),
        "bare grpc": Payload("/grpc", new, new_texts=True),
        "bare text": Payload("/text", new, new_texts=True),
    }
    tensors = inputs.write(stack, [file.read_bytes() for file in small], directory / "inputs")
    tokens = inputs.tokens(next(load_generator.texts(0)), stack.info["token_lengths"])
    return Payloads(
        http=http,
        images=tensors[0],
        texts=tensors[1],
        tokens=_put(directory / "tokens.bin", np.ascontiguousarray(tokens, "<i4").tobytes()),
        small=small,
        large=large,
        source=source,
    )


def sizes(files: Sequence[Path]) -> list[int]:
    """Return the bytes of each file."""
    return [file.stat().st_size for file in files]


def _put(file: Path, data: bytes) -> Path:
    file.write_bytes(data)
    return file
