"""Write the Triton configuration of a model: tensors and parameters for the gateway, and the engine's own fields.

Only fields that both the embedded server (Triton 2.51) and current releases support are set. There is no queue policy,
because a queue policy disables the batcher's prefetch. There are no preferred batch sizes, because NVIDIA advises
against them unless they are measured. Only the text tower enables Triton's response cache. The cache hashes every input
byte, and a text has few bytes. A server without a cache ignores the setting.
"""

from collections.abc import Mapping
from typing import Any, Final

from export import gpu_memory
from export.engines.engine import Engine
from export.graph.spec import Precision
from export.repository.config_pbtxt import DataType, ModelConfig
from export.variants import Tower, Variant

# Longest wait of a batch for more requests, in microseconds. Zero, because requests queue while a batch runs, and form
# the next batch. Measured against 500, 1000 and 2000 (export/README.md): at 500 a single client's rate fell to 0.56 of
# its rate at 0, and 16 clients gained nothing beyond the spread.
MAX_QUEUE_DELAY_US: Final = 0

INPUTS: Final[Mapping[Tower, tuple[str, str]]] = {"vision": ("image", "TYPE_UINT8"), "text": ("tokens", "TYPE_INT32")}
"""Name and Triton data type of each tower's input tensor."""
OUTPUT: Final = "embedding"
"""Name of the output tensor, FP32 [N, D]."""


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
    """Make the configuration of a tower's model.

    Args:
        file: name of the artifact's file in the version directory.
        max_batch_size: the largest batch that Triton may form.
        parameters: the parameters that the gateway shows at `/info`.

    Returns:
        The `inference.ModelConfig` message.
    """
    config = ModelConfig(name=variant.model_name(tower), backend=engine.backend, max_batch_size=max_batch_size)
    name, data_type = INPUTS[tower]
    shapes = variant.input_shapes(tower)
    # -1 is an axis that differs between the shapes.
    dims = [sizes[0] if len(set(sizes)) == 1 else -1 for sizes in zip(*shapes, strict=True)]
    config.input.add(name=name, data_type=DataType.Value(data_type), dims=dims)
    config.output.add(name=OUTPUT, data_type=DataType.Value("TYPE_FP32"), dims=(variant.embed_dim,))
    config.dynamic_batching.max_queue_delay_microseconds = MAX_QUEUE_DELAY_US
    config.dynamic_batching.SetInParent()  # Without this, an empty message is not written.
    # A GPU allocates memory and chooses kernels at the first inference of the largest batch. A CPU gains nothing from
    # this warmup, which takes minutes for L14-336. So CPU-only engines and pe-serve omit it.
    for batch_size in sorted({1, max_batch_size} if engine.warms_up_full_batch else {1}):
        for shape in shapes:
            size = "x".join(map(str, shape))
            warm_up = config.model_warmup.add(name=f"batch of {batch_size}, {size}", batch_size=batch_size)
            tensor = warm_up.inputs[name]  # Zeros are a valid image and valid tokens.
            tensor.data_type, tensor.zero_data = DataType.Value(data_type), True
            tensor.dims.extend(shape)
    if tower == "text":
        config.response_cache.enable = True
    for key, value in parameters.items():
        config.parameters[key].string_value = value
    memory = gpu_memory.estimate(variant, tower, precision, max_batch_size)
    engine.configure(config, precision, file, shapes, memory)
    return config
