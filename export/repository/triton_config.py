"""Describe a model to Triton: the contract with the gateway, and what the engine adds.

Only fields that both the embedded server (Triton 2.51) and current releases know are set. A queue policy is left out,
because any turns the batcher's prefetch off. Preferred batch sizes are left out, because NVIDIA advises against them
unless measured. Only the text tower asks for Triton's response cache: the cache hashes every input byte, and a text has
few. A server without a cache ignores the request.
"""

from collections.abc import Mapping
from typing import Any, Final

from export.engines.engine import Engine
from export.graph.spec import Precision
from export.repository.config_pbtxt import DataType, ModelConfig
from export.variants import Tower, Variant

# How long a batch may wait for more requests, in microseconds. Zero, because the next batch gathers while one runs.
# Compared with 500, 1000 and 2000 (export/README.md): a lone request lost up to 0.56 of its rate at 500, and 16
# requests in flight gained nothing beyond the spread.
MAX_QUEUE_DELAY_US: Final = 0

INPUTS: Final[Mapping[Tower, tuple[str, str]]] = {"vision": ("image", "TYPE_UINT8"), "text": ("tokens", "TYPE_INT32")}
"""Name and Triton data type of each tower's input tensor."""
OUTPUT: Final = "embedding"


def describe(
    variant: Variant,
    tower: Tower,
    engine: Engine,
    precision: Precision,
    *,
    file: str,
    max_batch_size: int,
    parameters: Mapping[str, str],
) -> Any:
    """Describe a tower's model.

    Args:
        file: the artifact's file in the version directory.
        max_batch_size: the largest batch that Triton may form.
        parameters: what the gateway shows of the model at `/info`.

    Returns:
        The `inference.ModelConfig` message.
    """
    config = ModelConfig(name=variant.model_name(tower), backend=engine.backend, max_batch_size=max_batch_size)
    name, data_type = INPUTS[tower]
    config.input.add(name=name, data_type=DataType.Value(data_type), dims=variant.input_shape(tower))
    config.output.add(name=OUTPUT, data_type=DataType.Value("TYPE_FP32"), dims=(variant.embed_dim,))
    config.dynamic_batching.max_queue_delay_microseconds = MAX_QUEUE_DELAY_US
    config.dynamic_batching.SetInParent()  # an empty message would be left out, and with it batching
    # A GPU chooses memory and kernels by the largest batch. A CPU gains nothing from inferring it, and takes minutes
    # for L14-336, so engines for CPUs alone and pe-serve leave it out.
    for batch_size in sorted({1, max_batch_size} if engine.warms_up_full_batch else {1}):
        warm_up = config.model_warmup.add(name=f"batch of {batch_size}", batch_size=batch_size)
        tensor = warm_up.inputs[name]  # zeros are a valid image, and tokens of the vocabulary
        tensor.data_type, tensor.zero_data = DataType.Value(data_type), True
        tensor.dims.extend(variant.input_shape(tower))
    if tower == "text":
        config.response_cache.enable = True
    for key, value in parameters.items():
        config.parameters[key].string_value = value
    engine.configure(config, precision, file)
    return config
