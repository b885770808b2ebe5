"""Weights file -> loaded towers, strictly: a missing, extra or wrongly shaped tensor names itself and stops.

Two layouts are understood, told apart by their own keys:

    open_clip   visual.trunk.*, text.*, logit_scale                     (safetensors, or a torch file)
    Meta        visual.*, the text tower's keys bare, logit_scale       (`PE-Core-*.pt`, as facebook/PE-Core-* has them)

A file is read as data only: safetensors, or torch's format with `weights_only=True`, whose unpickler runs no code.
"""

import hashlib
import json
import math
import pickle
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from open_clip.factory import get_model_config
from open_clip.model import _build_text_tower, _build_vision_tower
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from export.errors import CheckpointError
from export.graph.towers import TextTower, VisionTower
from export.variants import VARIANTS, Tower, Variant

# What open_clip's CustomTextCLIP calls its two towers: the first part of every key but `logit_scale`.
TOWER_KEYS: Mapping[Tower, str] = {"vision": "visual", "text": "text"}

Shape = tuple[int, ...]

# How much of a mapped torch file may stay in memory before it is mapped anew.
_MAPPED_BYTES = 128 * 2**20


@dataclass(frozen=True)
class Checkpoint:
    """An open weights file. Tensors are read one at a time, so that no more than one tower is ever in memory."""

    path: Path
    shapes: Mapping[str, Shape]
    read: Callable[[str], Tensor]
    notice: str = ""
    """What the file says of itself (safetensors metadata), to be passed on to whoever is served its embeddings."""

    @property
    def layout(self) -> str:
        return "meta" if "visual.conv1.weight" in self.shapes else "open_clip"


@dataclass(frozen=True)
class _Source:
    """Where one of open_clip's tensors comes from in a file: its key there, its shape there, and how to turn it."""

    key: str
    shape: Shape
    convert: Callable[[Tensor], Tensor]


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a safetensors or torch file, whatever its name ends in; CheckpointError if it is neither, or damaged."""
    if not path.is_file():
        raise CheckpointError(f"no checkpoint file at {path}")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path} is empty")
    if _looks_like_a_web_page(path):
        raise CheckpointError(f"{path} is a web page, not a checkpoint: the download went to a page that links to it")
    try:
        opened = _open_safetensors(path) if _looks_like_safetensors(path) else _open_torch_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    return opened


def architecture_digest(variant: Variant) -> str:
    """Hash open_clip's configuration of a variant: layers, widths, heads and input sizes.

    Returns:
        A SHA-256 in hexadecimal digits.
    """
    return hashlib.sha256(json.dumps(_architecture(variant), sort_keys=True).encode()).hexdigest()


def _architecture(variant: Variant) -> dict[str, Any]:
    if variant.bundled_checkpoint is not None:
        from export.demo import architecture

        architecture.register()
    config: dict[str, Any] | None = get_model_config(variant.architecture)
    if config is None:
        raise CheckpointError(f"this open_clip has no {variant.architecture}: install open_clip_torch >= 3.3")
    return config


def build_tower(variant: Variant, tower: Tower) -> nn.Module:
    """Build a tower as open_clip does: randomly initialised, in evaluation mode."""
    config = _architecture(variant)
    build = _build_vision_tower if tower == "vision" else _build_text_tower
    built: nn.Module = build(config["embed_dim"], config["vision_cfg" if tower == "vision" else "text_cfg"])
    return built.eval().requires_grad_(False)


def load_tower(
    variant: Variant, tower: Tower, checkpoint: Checkpoint, advance: Callable[[float], None] = lambda _: None
) -> VisionTower | TextTower:
    """The FP32 tower with the checkpoint's weights, after the whole file has been held against the variant.

    `advance` is told what part is loaded.
    """
    verify(variant, checkpoint)
    network = build_tower(variant, tower)
    loaded = 0
    for name, target in network.state_dict(keep_vars=True).items():
        source = _source(f"{TOWER_KEYS[tower]}.{name}", tuple(target.shape), checkpoint.layout)
        if source is None:
            target.data.zero_()
            continue
        value = checkpoint.read(source.key)
        if not torch.isfinite(value).all():
            raise CheckpointError(f"{checkpoint.path.name}: {source.key} holds values that are not finite")
        target.data.copy_(source.convert(value))
        loaded += target.numel()
        advance(loaded / variant.parameters[tower])
    return VisionTower(network) if tower == "vision" else TextTower(network)


def read_logit_scale(checkpoint: Checkpoint) -> float:
    """The learned temperature as it is applied: stored as a logarithm, used as its exponential."""
    return math.exp(float(checkpoint.read("logit_scale").float()))


def verify(variant: Variant, checkpoint: Checkpoint) -> None:
    """Hold every key and shape of the file against the variant; the first that differs is named."""
    if misfit := _misfit(variant, checkpoint):
        others = (other for other in VARIANTS.values() if not _misfit(other, checkpoint))
        instead = "".join(f"; it is a {other.name} checkpoint" for other in others)
        raise CheckpointError(f"{checkpoint.path.name} is not a {variant.name} checkpoint: {misfit}{instead}")


def _misfit(variant: Variant, checkpoint: Checkpoint) -> str:
    """The first key that is not the variant's; empty if all are."""
    expected = {source.key: source.shape for source in _expected_sources(variant, checkpoint.layout)}
    for key, shape in expected.items():
        if key not in checkpoint.shapes:
            return f"{key} is missing"
        if checkpoint.shapes[key] != shape:
            return f"{key} has shape {list(checkpoint.shapes[key])}, not {list(shape)}"
    return next((f"{key} does not belong to it" for key in checkpoint.shapes if key not in expected), "")


def _expected_sources(variant: Variant, layout: str) -> Iterator[_Source]:
    for tower, attribute in TOWER_KEYS.items():
        with torch.device("meta"):  # shapes only: nothing is allocated
            network = build_tower(variant, tower)
        for name, value in network.state_dict().items():
            source = _source(f"{attribute}.{name}", tuple(value.shape), layout)
            if source is not None:
                yield source
    yield _Source("logit_scale", (), lambda value: value)


# Meta's names for timm's: both write the same network, Meta with nn.MultiheadAttention's names.
_META_VISION_NAMES = (
    ("trunk.", ""),
    ("attn_pool.norm.", "attn_pool.layernorm."),
    ("attn_pool.latent", "attn_pool.probe"),
    ("attn_pool.proj.", "attn_pool.attn.out_proj."),
    ("attn_pool.q.", "attn_pool.attn.in_proj_"),
    ("attn_pool.kv.", "attn_pool.attn.in_proj_"),
    ("attn.qkv.", "attn.in_proj_"),
    ("attn.proj.", "attn.out_proj."),
    ("mlp.fc1.", "mlp.c_fc."),
    ("mlp.fc2.", "mlp.c_proj."),
    ("norm_pre.", "ln_pre."),
    (".norm1.", ".ln_1."),
    (".norm2.", ".ln_2."),
    ("patch_embed.proj.", "conv1."),
    ("pos_embed", "positional_embedding"),
    ("cls_token", "class_embedding"),
    ("blocks.", "transformer.resblocks."),
)


def _source(key: str, shape: Shape, layout: str) -> _Source | None:
    """Where open_clip's tensor `key` of `shape` comes from; None for timm's head bias, which Meta's network lacks."""
    if layout == "open_clip":
        return _Source(key, shape, lambda value: value)
    if key.startswith("text."):
        return _Source(key.removeprefix("text."), shape, lambda value: value)
    name = key.removeprefix("visual.trunk.")
    if name == "head.bias":
        return None
    if name == "head.weight":
        return _Source("visual.proj", shape[::-1], lambda value: value.T)
    meta_name = key.removeprefix("visual.")
    for timm_name, replacement in _META_VISION_NAMES:
        meta_name = meta_name.replace(timm_name, replacement)
    if meta_name.startswith("norm."):
        meta_name = meta_name.replace("norm.", "ln_post.")
    meta_key = f"visual.{meta_name}"
    if name.startswith("attn_pool.q."):  # Meta keeps query, key and value in one tensor
        rows = shape[0]
        return _Source(meta_key, (3 * rows, *shape[1:]), lambda value: value[:rows])
    if name.startswith("attn_pool.kv."):
        rows = shape[0] // 2
        return _Source(meta_key, (3 * rows, *shape[1:]), lambda value: value[rows:])
    if name == "cls_token":
        return _Source(meta_key, shape[2:], lambda value: value.reshape(shape))
    if name == "pos_embed":
        return _Source(meta_key, shape[1:], lambda value: value.reshape(shape))
    return _Source(meta_key, shape, lambda value: value)


def _looks_like_a_web_page(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(512).lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml"))


def _looks_like_safetensors(path: Path) -> bool:
    # An 8-byte length, then the header's JSON (https://huggingface.co/docs/safetensors, "Format").
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _open_safetensors(path: Path) -> Checkpoint:
    with safe_open(path, framework="pt") as file:
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 - no dict
        notice = (file.metadata() or {}).get("notice", "")

    def read(key: str) -> Tensor:
        # The file is mapped, and what was read of a mapping stays in memory as long as it: so one mapping a tensor.
        with safe_open(path, framework="pt") as file:
            tensor: Tensor = file.get_tensor(key)
            return tensor

    return Checkpoint(path, shapes, read, notice)


def _open_torch_file(path: Path) -> Checkpoint:
    tensors = _load_torch_file(path)
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    mapped = 0

    def read(key: str) -> Tensor:
        nonlocal tensors, mapped
        if mapped > _MAPPED_BYTES:
            tensors, mapped = _load_torch_file(path), 0
        mapped += tensors[key].nbytes
        return tensors[key]

    return Checkpoint(path, shapes, read)


def _load_torch_file(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd pickles: they are refused, or fine
            # Only the zip format can be mapped; the older one is read whole.
            loaded: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        # torch's message runs over several lines and advises to switch the protection off: say less.
        raise CheckpointError(f"{path} is not a file of plain tensors, and nothing else is read from it") from error
    except (RuntimeError, EOFError, KeyError, ValueError, AttributeError, IndexError) as error:
        raise CheckpointError(f"{path} is neither safetensors nor a torch checkpoint, or it is damaged") from error
    for wrapper in ("state_dict", "weights"):  # Meta's own loader unwraps these two
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise CheckpointError(f"{path} does not hold a table of tensors")
    return {str(key).removeprefix("module."): value for key, value in loaded.items()}
