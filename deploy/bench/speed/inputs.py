"""Write the inputs that perf_analyzer sends: `python -m deploy.bench.speed.inputs`, for the variant of a gateway.

By default perf_analyzer sends one random tensor repeatedly, which no image looks like and any cache answers.
"""

import argparse
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from PIL import Image

from deploy.bench.harness import client, load_generator, photographs
from deploy.bench.harness.stack import Stack, StackFailed, attach
from deploy.bench.speed import perf_analyzer
from gateway.encoder import Pixels, Tokens
from gateway.images.preprocess import preprocess
from gateway.texts.lengths import padded_length
from gateway.texts.tokenizer import Tokenizer

_TEXTS: Final = 1000  # many enough that the gateway's text cache does not answer most of them


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files and print their names.

    Returns:
        0: written. 1: the gateway cannot be reached, or a picture cannot be read.
    """
    parser = argparse.ArgumentParser(prog="python -m deploy.bench.speed.inputs", description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:9001", help="the gateway (default: %(default)s)")
    parser.add_argument("--variant", help="if several are served (default: the first)")
    parser.add_argument("--output", type=Path, default=Path("inputs"), help="folder (default: %(default)s)")
    parser.add_argument("picture", type=Path, nargs="*", help="image files to send (default: photographs, 640x480)")
    options = parser.parse_args(arguments)
    try:
        stack = attach(options.url, "", "", options.variant)
        files = [path.read_bytes() for path in options.picture] or photograph_files()
        written = write(stack, files, options.output)
    except (StackFailed, OSError, ValueError) as error:
        print(f"inputs: {error}", file=sys.stderr)
        return 1
    for file in written:
        print(file)
    return 0


def write(stack: Stack, files: Sequence[bytes], directory: Path) -> list[Path]:
    """Write tensors for Triton and bodies for the gateway, of the same images and texts.

    Args:
        stack: its variant.
        files: images in any format that Pillow reads.
        directory: to write to.

    Raises:
        OSError: a file is not an image.
    """
    directory.mkdir(parents=True, exist_ok=True)
    texts = [text for _, text in zip(range(_TEXTS), load_generator.texts(0), strict=False)]
    variant = {"perception_encoder_version_id": stack.variant}
    return [
        perf_analyzer.input_data("image", pixels(files, stack.image_size), directory / "vision.json"),
        perf_analyzer.input_data(
            "tokens", [tokens(text, stack.info["token_lengths"]) for text in texts], directory / "text.json"
        ),
        _bodies(directory / "embed_image.json", [{**variant, "image": client.image_json(file)} for file in files]),
        _bodies(directory / "embed_text.json", [{**variant, "text": text} for text in texts]),
    ]


def pixels(files: Sequence[bytes], size: tuple[int, int]) -> list[Pixels]:
    """Decode and resize images as the gateway does: uint8 [H, W, 3] of that size [H, W].

    Raises:
        OSError: a file is not an image.
    """
    return [preprocess(Image.open(io.BytesIO(file)).convert("RGB"), size) for file in files]


def photograph_files() -> list[bytes]:
    """Return the photographs as JPEG files of 640x480."""
    return [photographs.jpeg(picture, photographs.SMALL) for picture in photographs.photographs()[0]]


def tokens(text: str, lengths: Sequence[int]) -> Tokens:
    """Tokenize and pad a text as the gateway does: int32 [L], where L is one of the model's token lengths."""
    encoding = Tokenizer(lengths[-1]).encode(text)
    return encoding.tokens[: padded_length(encoding.length, lengths)]


def _bodies(file: Path, bodies: Sequence[dict[str, Any]]) -> Path:
    """Write bodies in the form of `--service-kind=openai`, which posts any JSON."""
    file.write_text(json.dumps({"data": [{"payload": [body]} for body in bodies]}))
    return file


if __name__ == "__main__":
    sys.exit(main())
