"""Write the inputs that perf_analyzer sends to a model."""

from itertools import islice
from pathlib import Path
from typing import Any, Final

from deploy.bench.harness import load_generator
from deploy.bench.speed import perf_analyzer
from deploy.bench.speed.inputs import photograph_files, pixels, tokens
from gateway.triton.models import token_lengths

_TEXTS: Final = 1000


def write(config: Any, directory: Path) -> Path:
    """Write photographs, or short texts, for a tower.

    Args:
        config: the tower's `inference.ModelConfig`, which has the shape of the input.
        directory: for the file.
    """
    (tensor,) = config.input
    file = directory / f"{config.name}.json"
    if tensor.name == "image":
        height, width, _ = tensor.dims
        return perf_analyzer.input_data("image", pixels(photograph_files(), (height, width)), file)
    lengths = token_lengths(config)
    texts = islice(load_generator.texts(0), _TEXTS)
    return perf_analyzer.input_data("tokens", [tokens(text, lengths) for text in texts], file)
