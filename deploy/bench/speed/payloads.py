"""The bodies that are sent, as files for the load generator and tensors for perf_analyzer."""

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import numpy as np
from PIL import Image

from deploy.bench.harness import photographs as pictures
from deploy.bench.harness.stack import Stack
from deploy.bench.speed import perf_analyzer
from gateway.images.preprocess import preprocess
from gateway.texts.tokenizer import Tokenizer

JSON: Final = "application/json"
PROMPTS: Final = ("a photo of a cat", "a photo of a rocket", "a cup of coffee on a table")


@dataclass(frozen=True)
class Payload:
    """One kind of request: where it goes, and files that are sent in turn."""

    path: str
    files: list[Path]
    kind: str = JSON
    items: int = 1  # images or texts in one request
    new_texts: bool = False  # each request another text, in place of @TEXT@


@dataclass(frozen=True)
class Payloads:
    """What is sent: over HTTP by name, through perf_analyzer, and as files to decode alone."""

    http: dict[str, Payload]
    images: Path  # for perf_analyzer
    texts: Path
    tokens: Path  # one text's, raw int32
    small: list[Path]  # the JPEG files themselves
    large: list[Path]
    source: str


def write(stack: Stack, directory: Path) -> Payloads:
    """Makes them all below ``directory``, for the variant that is served."""
    images, source = pictures.pictures()
    small = [_put(directory / f"small-{i}.jpg", pictures.jpeg(p, pictures.SMALL)) for i, p in enumerate(images)]
    large = [_put(directory / f"large-{i}.jpg", pictures.jpeg(p, pictures.LARGE)) for i, p in enumerate(images[:2])]
    variant = {"perception_encoder_version_id": stack.variant}
    encoded, encoded_large = ([wire(file.read_bytes()) for file in files] for files in (small, large))

    def body(name: str, **fields: Any) -> Path:
        return _put(directory / f"{name}.json", json.dumps({**variant, **fields}).encode())

    def many(count: int) -> list[dict[str, str]]:
        return [encoded[i % len(encoded)] for i in range(count)]

    image, text = "/perception_encoder/embed_image", "/perception_encoder/embed_text"
    new = [body("text", text="@TEXT@")]
    repeated = [body(f"prompt-{i}", text=prompt) for i, prompt in enumerate(PROMPTS)]
    compared = [body(f"compare-{i}", subject=one, prompt=list(PROMPTS)) for i, one in enumerate(encoded)]
    http = {
        "image base64": Payload(image, [body(f"image-{i}", image=one) for i, one in enumerate(encoded)]),
        "image raw": Payload(f"{image}?perception_encoder_version_id={quote(stack.variant)}", small, "image/jpeg"),
        "image 12 MP": Payload(image, [body(f"large-{i}", image=one) for i, one in enumerate(encoded_large)]),
        "list of 8": Payload(image, [body("list-8", image=many(8))], items=8),
        "list of 32": Payload(image, [body("list-32", image=many(32))], items=32),
        "compare": Payload("/perception_encoder/compare", compared),
        "text new": Payload(text, new, new_texts=True),
        "text repeated": Payload(text, repeated),
        "bare ready": Payload("/ready", repeated),
        "bare grpc": Payload("/grpc", new, new_texts=True),
    }
    tokenizer = Tokenizer(stack.info["context_length"])
    tokens = [tokenizer.encode(prompt).tokens for prompt in PROMPTS]
    pixels = [preprocess(Image.open(io.BytesIO(f.read_bytes())).convert("RGB"), stack.image_size) for f in small]
    return Payloads(
        http,
        perf_analyzer.input_data("image", pixels, directory / "perf-image.json"),
        perf_analyzer.input_data("tokens", tokens, directory / "perf-text.json"),
        _put(directory / "tokens.bin", np.ascontiguousarray(tokens[0], "<i4").tobytes()),
        small,
        large,
        source,
    )


def sizes(files: Sequence[Path]) -> list[int]:
    """Bytes of each file."""
    return [file.stat().st_size for file in files]


def _put(file: Path, data: bytes) -> Path:
    file.write_bytes(data)
    return file


def wire(data: bytes) -> dict[str, str]:
    """The interface's image object."""
    return {"type": "base64", "value": base64.b64encode(data).decode()}
