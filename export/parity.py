"""Proof that an artifact embeds as the checkpoint does: the same real inputs through torch in FP32 and through its own
runtime.

Images are the photographs in `samples/`, squashed as the gateway squashes them; texts are ImageNet's class names in
CLIP's prompt templates (both from open_clip) and a few awkward ones. Batches of several sizes are run, so that a graph
that forgot its batch axis is found out.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import open_clip
import torch
from PIL import Image
from torch import nn

from export.errors import ParityError
from export.variants import Tower, Variant

Array = npt.NDArray[Any]
Embeddings = npt.NDArray[np.float32]

# The least cosine with torch's FP32 embedding that a sample may have, by the precision of the graph.
MIN_COSINE = {"fp32": 0.99999, "fp16": 0.999, "bf16": 0.999}

SAMPLES = Path(__file__).parent / "samples"
_CLASS_TEXTS = 200
_AWKWARD_TEXTS = (
    "",
    "a",
    "a dog. " * 60,  # longer than any context: truncated, end token kept
    "Ein Fahrrad lehnt an der Mauer, früh am Morgen",
    "猫が窓辺で眠っている",
    "🚲 + ☀️ = ?!",
    "<html>&amp;&lt;b&gt;",
    "<end_of_text> in the middle of a text",
)


@dataclass(frozen=True)
class Parity:
    """How far an artifact's embeddings are from torch's, over all samples and components."""

    samples: int
    min_cosine: float
    max_abs_error: float


def samples(variant: Variant, tower: Tower) -> Array:
    """The tower's test inputs: image uint8 [N, H, W, 3], or tokens int32 [N, L]."""
    if tower == "vision":
        size = (variant.image_size, variant.image_size)
        squashed = []
        for path in sorted(SAMPLES.glob("*.jpg")):
            with Image.open(path) as photograph:
                squashed.append(np.asarray(photograph.convert("RGB").resize(size, Image.Resampling.BILINEAR)))
        return np.stack(squashed)
    templates, names = open_clip.OPENAI_IMAGENET_TEMPLATES, open_clip.IMAGENET_CLASSNAMES
    step = len(names) // _CLASS_TEXTS
    texts = [templates[i % len(templates)](names[i * step]) for i in range(_CLASS_TEXTS)]
    tokens: torch.Tensor = open_clip.SimpleTokenizer(context_length=variant.context_length)([*texts, *_AWKWARD_TEXTS])
    return tokens.numpy().astype(np.int32)


def embed_with_torch(tower: nn.Module, inputs: Array) -> Embeddings:
    """What the tower makes of `inputs`, FP32 [N, D]."""
    with torch.inference_mode():
        return _embed(lambda batch: tower(torch.from_numpy(batch)).numpy(), inputs)


def embed_with_onnxruntime(path: Path, inputs: Array) -> Embeddings:
    """What the ONNX file makes of `inputs`, FP32 [N, D], on the CPU; ParityError if onnxruntime refuses it."""
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return _embed(lambda batch: session.run(None, {name: batch})[0], inputs)
    except Exception as error:  # onnxruntime's own classes share no base but this
        raise ParityError(f"onnxruntime cannot run {path.name}: {str(error).splitlines()[0]}") from error


def compare(expected: Embeddings, actual: Embeddings) -> Parity:
    """Figures over two [N, D] arrays; ParityError if `actual` is not finite and of unit length."""
    if expected.shape != actual.shape:
        raise ParityError(f"embeddings have shape {list(actual.shape)}, not {list(expected.shape)}")
    lengths = np.linalg.norm(actual.astype(np.float64), axis=1)
    if not (np.isfinite(actual).all() and np.allclose(lengths, 1, atol=1e-3)):
        raise ParityError("embeddings are not finite and of unit length")
    products = np.einsum("nd,nd->n", expected.astype(np.float64), actual.astype(np.float64))
    cosines = products / lengths / np.linalg.norm(expected.astype(np.float64), axis=1)
    return Parity(len(expected), float(min(cosines.min(), 1.0)), float(np.abs(expected - actual).max()))


def require(parity: Parity, precision: str) -> None:
    """ParityError if the figures miss the tolerance of `precision`."""
    if parity.min_cosine < MIN_COSINE[precision]:
        raise ParityError(
            f"minimum cosine to torch FP32 is {parity.min_cosine:.6f} over {parity.samples} samples, "
            f"below {MIN_COSINE[precision]} for {precision}"
        )


def _embed(run: Callable[[Array], Array], inputs: Array) -> Embeddings:
    largest = 4 if inputs.ndim == 4 else 32  # images; a text costs a small part of one
    return np.concatenate([run(batch) for batch in _batches(inputs, largest)]).astype(np.float32)


def _batches(inputs: Array, largest: int) -> Iterator[Array]:
    """Batches of 1, 2 and 3, then of `largest`: no size is special, and memory stays bounded."""
    start = 0
    for size in (1, 2, 3, *[largest] * len(inputs)):
        if start < len(inputs):
            yield inputs[start : start + size]
        start += size
