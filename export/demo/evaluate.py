"""Measure the demo variant through a running server: `python -m export.demo.evaluate [--url http://127.0.0.1:9001]`.

The program draws new pictures of one coloured shape each. It embeds the pictures and all 81 prompts "a {colour}
{shape}" over HTTP. The prompt with the greatest cosine is the answer. The program prints a Markdown table, and exits
with 1 if an accuracy is below its floor. It needs Pillow and numpy, and no torch.
"""

import argparse
import base64
import io
import json
import sys
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from PIL import Image

from export.demo.pictures import COMBINATIONS, HELD_OUT, Scene, draw, single_scene
from export.demo.questions import Question, questions

VARIANT: Final = "PE-Demo-T8-64"
PER_REQUEST: Final = 8
"""Number of images or texts in a request."""
DOMAIN: Final = 1_000_003
"""First word of every seed in this module. Training's seeds begin with 20, so no picture occurs in training."""


class Embedder(Protocol):
    """The two towers. Embeddings are float [N, D], not necessarily of unit length."""

    def embed_images(self, pictures: Sequence[Image.Image]) -> np.ndarray: ...

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray: ...


@dataclass(frozen=True)
class Row:
    """One line of the table. `choices` is the number of possible answers; `accuracy` is between 0 and 1."""

    name: str
    pictures: int
    choices: int
    accuracy: float


class Server:
    """The towers of a running server, through its HTTP API."""

    def __init__(self, url: str, variant: str = VARIANT) -> None:
        self.url = url.rstrip("/")
        self.variant = variant

    def embed_images(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        return self._embed("image", [{"type": "base64", "value": _png(picture)} for picture in pictures])

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        return self._embed("text", texts)

    def _embed(self, kind: str, values: Sequence[object]) -> np.ndarray:
        parts = [self._post(kind, values[i : i + PER_REQUEST]) for i in range(0, len(values), PER_REQUEST)]
        return np.concatenate(parts)

    def _post(self, kind: str, values: Sequence[object]) -> np.ndarray:
        body = json.dumps({kind: values, "perception_encoder_version_id": self.variant}).encode()
        request = urllib.request.Request(
            f"{self.url}/perception_encoder/embed_{kind}", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return np.array(json.load(answer)["embeddings"], np.float64)


def classify(images: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """Find the text with the greatest cosine for each image.

    Args:
        images: embeddings [N, D].
        texts: embeddings [C, D].

    Returns:
        Indices of texts, int [N].
    """
    unit_images = images / np.linalg.norm(images, axis=1, keepdims=True)
    unit_texts = texts / np.linalg.norm(texts, axis=1, keepdims=True)
    answers: np.ndarray = (unit_images @ unit_texts.T).argmax(axis=1)
    return answers


def prompts(template: str = "a {colour} {shape}") -> list[str]:
    """Write one prompt for each of COMBINATIONS, both seen and held out."""
    return [template.format(colour=colour, shape=shape) for colour, shape in COMBINATIONS]


def new_picture(seed: int, number: int, scene: Scene | None = None) -> Image.Image:
    """Draw picture `number` of a seed: `scene`, or else one shape of the combination at index `number` mod 81."""
    rng = np.random.default_rng([DOMAIN, seed, number])
    return draw(rng, scene or single_scene(rng, COMBINATIONS[number % len(COMBINATIONS)]))


def measure(embedder: Embedder, pictures: int, seed: int) -> list[Row]:
    """Measure the accuracy on seen and on held-out combinations. Every prompt is a possible answer."""
    images = embedder.embed_images([new_picture(seed, i) for i in range(pictures)])
    expected = np.arange(pictures) % len(COMBINATIONS)
    right = classify(images, embedder.embed_texts(prompts())) == expected
    held_out = np.array([combination in HELD_OUT for combination in COMBINATIONS])[expected]
    return [
        Row("seen combinations", int((~held_out).sum()), len(COMBINATIONS), float(right[~held_out].mean())),
        Row("held-out combinations", int(held_out.sum()), len(COMBINATIONS), float(right[held_out].mean())),
    ]


def measure_question(embedder: Embedder, question: Question, seed: int) -> Row:
    """Measure the accuracy on a further question. Each picture has its own possible answers."""
    first = 10_000_000  # above every number that `measure` uses
    images = embedder.embed_images([new_picture(seed, first + i, scene) for i, scene in enumerate(question.scenes)])
    texts = sorted({text for choice in question.answers for text in choice})
    embeddings = dict(zip(texts, embedder.embed_texts(texts), strict=True))
    right = [
        classify(image[None], np.stack([embeddings[text] for text in choice]))[0] == 0
        for image, choice in zip(images, question.answers, strict=True)
    ]
    return Row(question.name, len(right), len(question.answers[0]), float(np.mean(right)))


def table(rows: Sequence[Row]) -> str:
    """Format rows as a Markdown table."""
    lines = ["| | pictures | possible answers | accuracy |", "| --- | ---: | ---: | ---: |"]
    lines += [f"| {row.name} | {row.pictures:,} | {row.choices} | {row.accuracy:.1%} |" for row in rows]
    return "\n".join(lines)


def _png(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m export.demo.evaluate", description=f"Measure {VARIANT} over HTTP.")
    parser.add_argument("--url", default="http://127.0.0.1:9001", help="the server (%(default)s)")
    parser.add_argument("--pictures", type=int, default=2025, help="25 of each combination unless told (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="other pictures (%(default)s)")
    parser.add_argument("--min-seen", type=float, default=0.95, help="floor for seen combinations (%(default)s)")
    parser.add_argument("--min-held-out", type=float, default=0.90, help="floor for held-out ones (%(default)s)")
    parser.add_argument("--more", action="store_true", help="further questions: other wordings, counts, places, ...")
    args = parser.parse_args()
    server = Server(args.url)
    rows = measure(server, args.pictures, args.seed)
    seen, held_out = rows
    if args.more:
        rows += [measure_question(server, question, args.seed) for question in questions(args.seed)]
    sys.stdout.write(table(rows) + "\n")
    if seen.accuracy < args.min_seen or held_out.accuracy < args.min_held_out:
        sys.exit(
            f"below the floor of {args.min_seen:.0%} for seen or {args.min_held_out:.0%} for held-out combinations"
        )


if __name__ == "__main__":
    main()
