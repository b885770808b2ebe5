"""Triton's model configurations to what the gateway serves.

A variant V is served when the models ``V-vision`` and ``V-text`` are ready. Shapes, limits and certificates come from
the models' own configuration, so nothing about a variant is written down here.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

from tritonclient.grpc import model_config_pb2

from gateway.encoder import EncoderSpec, TowerSpec

VISION: Final = "-vision"
TEXT: Final = "-text"

InputName = Literal["image", "tokens"]
INPUT_NAMES: Final[tuple[InputName, ...]] = ("image", "tokens")

_log = logging.getLogger(__name__)


def number(version: str) -> int:
    """By which versions are ordered; Triton's are numbers."""
    return int(version) if version.isdecimal() else 0


def variants(models: Iterable[str]) -> list[str]:
    """The variants whose two towers are among these models, in order."""
    names = set(models)
    return sorted(v for name in names if (v := name.removesuffix(VISION)) != name and v + TEXT in names)


def specs(served: Mapping[str, str], configs: Mapping[str, Any]) -> dict[str, EncoderSpec]:
    """What can be served of these models; the log says why others cannot.

    Args:
        served: ready models and their versions.
        configs: Triton's ``ModelConfig`` of both towers of each of ``variants(served)``.
    """
    found = {}
    for variant in variants(served):
        try:
            found[variant] = _spec(variant, configs[variant + VISION], configs[variant + TEXT], served)
        except ValueError as error:
            _log.error("Triton's models of %s are not what this gateway serves: %s", variant, error)
    return found


def _spec(variant: str, vision: Any, text: Any, served: Mapping[str, str]) -> EncoderSpec:
    """What two model configurations say of a variant.

    Raises:
        ValueError: they are not the two towers that the exporter makes: names, types, dimensions.
    """
    height, width, channels = _dims(vision, vision.input, "image", "TYPE_UINT8", rank=3)
    (context_length,) = _dims(text, text.input, "tokens", "TYPE_INT32", rank=1)
    (embed_dim,) = _dims(vision, vision.output, "embedding", "TYPE_FP32", rank=1)
    (text_embed_dim,) = _dims(text, text.output, "embedding", "TYPE_FP32", rank=1)
    if channels != 3:
        raise ValueError(f"{vision.name}: image has {channels} channels, not 3")
    if embed_dim != text_embed_dim:
        raise ValueError(f"{vision.name} embeds in {embed_dim} dimensions, {text.name} in {text_embed_dim}")
    return EncoderSpec(
        variant, (height, width), context_length, embed_dim, _tower(vision, served), _tower(text, served)
    )


def _tower(model: Any, served: Mapping[str, str]) -> TowerSpec:
    certificate = {key: parameter.string_value for key, parameter in sorted(model.parameters.items())}
    return TowerSpec(model.max_batch_size, served[model.name], certificate)


def _dims(model: Any, tensors: Any, name: str, data_type: str, rank: int) -> tuple[int, ...]:
    """Dimensions of the model's tensor of that name, the batch axis left out."""
    tensor = next((tensor for tensor in tensors if tensor.name == name), None)
    if tensor is None:
        raise ValueError(f"{model.name} has no tensor `{name}` where one is expected")
    dims = tuple(tensor.dims)
    kind = model_config_pb2.DataType.Name(tensor.data_type)
    if kind != data_type or len(dims) != rank or min(dims) <= 0 or model.max_batch_size < 1:
        raise ValueError(f"{model.name}: `{name}` is {kind} {list(dims)}, batches of up to {model.max_batch_size}")
    return dims
