"""Derive the variants that can be served from Triton's model configurations.

A variant V is served when the models `V-vision` and `V-text` are ready. Shapes, limits and certificates are read from
the models' configurations, so this module contains no facts about a variant.
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


def version_number(version: str) -> int:
    """The sort key of a version. Triton's versions are decimal numbers."""
    return int(version) if version.isdecimal() else 0


def variants(models: Iterable[str]) -> list[str]:
    """The names of the variants whose two towers are among these models, sorted."""
    names = set(models)
    return sorted(v for name in names if (v := name.removesuffix(VISION)) != name and v + TEXT in names)


def specs(ready_models: Mapping[str, str], configs: Mapping[str, Any]) -> dict[str, EncoderSpec]:
    """Build the spec of each variant that can be served. A variant with unexpected models is logged and left out.

    Args:
        ready_models: names of ready models, with their versions.
        configs: Triton's `ModelConfig` of each tower of each of `variants(ready_models)`.
    """
    found = {}
    for variant in variants(ready_models):
        try:
            found[variant] = _spec(variant, configs[variant + VISION], configs[variant + TEXT], ready_models)
        except ValueError as error:
            _log.error("Triton's models of %s cannot be served: %s", variant, error)
        else:
            _warn_of_different_weights(found[variant])
    return found


def _warn_of_different_weights(spec: EncoderSpec) -> None:
    """Log towers of different checkpoints. They are served, because both files may have a tower in common."""
    digests = [tower.certificate.get("checkpoint_sha256") for tower in (spec.vision, spec.text)]
    if all(digests) and len(set(digests)) > 1:
        _log.warning(
            "The towers of %s were exported from different checkpoints, as after an export that ended between them. "
            "If their weights differ, similarities of images and texts mean nothing: export both again",
            spec.variant,
        )


def _spec(variant: str, vision: Any, text: Any, ready_models: Mapping[str, str]) -> EncoderSpec:
    """Build a variant's spec from the configurations of its two models.

    Raises:
        ValueError: a tensor's name, type or shape is not that of an exported tower.
    """
    height, width, channels = _dims(vision, vision.input, "image", "TYPE_UINT8", rank=3)
    lengths = token_lengths(text)
    (embed_dim,) = _dims(vision, vision.output, "embedding", "TYPE_FP32", rank=1)
    (text_embed_dim,) = _dims(text, text.output, "embedding", "TYPE_FP32", rank=1)
    if channels != 3:
        raise ValueError(f"{vision.name}: image has {channels} channels, not 3")
    if embed_dim != text_embed_dim:
        raise ValueError(f"{vision.name} embeds in {embed_dim} dimensions, {text.name} in {text_embed_dim}")
    return EncoderSpec(
        variant, (height, width), lengths, embed_dim, _tower(vision, ready_models), _tower(text, ready_models)
    )


def token_lengths(text: Any) -> tuple[int, ...]:
    """The lengths of `tokens` to send: the length of the tensor, or if that is dynamic, those that the exporter proved.

    Raises:
        ValueError: `tokens` is not as expected, or its length is dynamic and the parameters give no valid lengths.
    """
    (length,) = _dims(text, text.input, "tokens", "TYPE_INT32", rank=1, dynamic=True)
    if length > 0:
        return (length,)
    parameters = {key: parameter.string_value for key, parameter in text.parameters.items()}
    context_length, given = parameters.get("context_length", ""), parameters.get("token_lengths", "")
    lengths = tuple(map(_count, (given or context_length).split()))
    ascending = sorted(set(lengths)) == list(lengths)
    if not lengths or not ascending or lengths[0] < 2 or lengths[-1] != _count(context_length):
        raise ValueError(
            f"{text.name}: `tokens` has any length, so the parameter `context_length` must give the most tokens, "
            f"and `token_lengths` may give more lengths below it; they are {context_length!r} and {given!r}"
        )
    return lengths


def _count(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() else 0


def _tower(model: Any, ready_models: Mapping[str, str]) -> TowerSpec:
    certificate = {key: parameter.string_value for key, parameter in sorted(model.parameters.items())}
    # Triton writes the GPUs of a group into the configuration that it reports. A group has `count` instances on each.
    instances = sum(group.count * max(1, len(group.gpus)) for group in model.instance_group)
    return TowerSpec(model.max_batch_size, ready_models[model.name], certificate, max(1, instances))


def _dims(model: Any, tensors: Any, name: str, data_type: str, rank: int, dynamic: bool = False) -> tuple[int, ...]:
    """The dimensions of a tensor, without the batch axis. -1 is any size, if `dynamic` allows that.

    Raises:
        ValueError: the tensor does not exist, or has another type or rank.
    """
    tensor = next((tensor for tensor in tensors if tensor.name == name), None)
    if tensor is None:
        raise ValueError(f"{model.name} has no tensor `{name}` where one is expected")
    dims = tuple(tensor.dims)
    kind = model_config_pb2.DataType.Name(tensor.data_type)
    if kind != data_type or len(dims) != rank or not _allowed(dims, dynamic) or model.max_batch_size < 1:
        raise ValueError(f"{model.name}: `{name}` is {kind} {list(dims)}, batches of up to {model.max_batch_size}")
    return dims


def _allowed(dims: tuple[int, ...], dynamic: bool) -> bool:
    return all(size > 0 or (dynamic and size == -1) for size in dims)
