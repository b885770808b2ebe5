"""Load a tower from a checkpoint file. A missing, extra or wrongly shaped tensor raises an error that names its key.

Two layouts are supported. The keys in the file decide which one applies:

    open_clip   visual.trunk.*, text.*, logit_scale                     (safetensors, or a torch file)
    Meta        visual.*, text tower's keys without prefix, logit_scale (`PE-Core-*.pt` from facebook/PE-Core-*)

Reading a file runs no code from the file. The formats are safetensors, and torch's with `weights_only=True`.
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

# The names of the towers in open_clip's CustomTextCLIP. Every key except `logit_scale` begins with one of them.
TOWER_KEYS: Mapping[Tower, str] = {"vision": "visual", "text": "text"}

Shape = tuple[int, ...]

# After reading this many bytes of a memory-mapped torch file, map the file again. This frees the pages already read.
_MAPPED_BYTES = 128 * 2**20


@dataclass(frozen=True)
class Checkpoint:
    """An open checkpoint file. Tensors are read one at a time, so that at most one tower is in memory."""

    path: Path
    shapes: Mapping[str, Shape]
    """Shape of every tensor in the file, by key."""
    read: Callable[[str], Tensor]
    """Read one tensor by its key, in the dtype of the file, on the CPU."""
    notice: str = ""
    """The entry `notice` of the safetensors metadata. It reaches clients through the gateway's `/info`."""

    @property
    def layout(self) -> str:
        """The layout of the keys: "meta" or "open_clip"."""
        return "meta" if "visual.conv1.weight" in self.shapes else "open_clip"


@dataclass(frozen=True)
class _Source:
    """Where one of open_clip's tensors is in a file: its key, its shape, and how to convert it to open_clip's shape."""

    key: str
    shape: Shape
    convert: Callable[[Tensor], Tensor]


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a safetensors or torch file. The contents decide the format, and the file name does not matter.

    Raises:
        CheckpointError: the file is missing, empty, damaged or unreadable, or has another format.
    """
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

    Raises:
        CheckpointError: the installed open_clip does not have the architecture.
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
    """Build a tower as open_clip does: randomly initialised, FP32, in evaluation mode, without gradients.

    Raises:
        CheckpointError: the installed open_clip does not have the architecture.
    """
    config = _architecture(variant)
    build = _build_vision_tower if tower == "vision" else _build_text_tower
    built: nn.Module = build(config["embed_dim"], config["vision_cfg" if tower == "vision" else "text_cfg"])
    return built.eval().requires_grad_(False)


def load_tower(
    variant: Variant, tower: Tower, checkpoint: Checkpoint, advance: Callable[[float], None] = lambda _: None
) -> VisionTower | TextTower:
    """Build an FP32 tower and load its weights. First `verify` compares the whole file with the variant.

    Args:
        advance: receives the loaded fraction, from 0 to 1.

    Raises:
        CheckpointError: the file is not a checkpoint of the variant, or holds values that are not finite.
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
    """Read the logit scale. The file stores its natural logarithm, and the result is the exponential of that value."""
    return math.exp(float(checkpoint.read("logit_scale").float()))


def verify(variant: Variant, checkpoint: Checkpoint) -> None:
    """Compare every key and shape of the file with the variant.

    Raises:
        CheckpointError: a key is missing, extra or of another shape. The message names the first such key.
    """
    if misfit := _misfit(variant, checkpoint):
        others = (other for other in VARIANTS.values() if not _misfit(other, checkpoint))
        instead = "".join(f"; it is a {other.name} checkpoint" for other in others)
        raise CheckpointError(f"{checkpoint.path.name} is not a {variant.name} checkpoint: {misfit}{instead}")


def _misfit(variant: Variant, checkpoint: Checkpoint) -> str:
    """Describe the first key that does not match the variant. Empty if every key matches."""
    expected = {source.key: source.shape for source in _expected_sources(variant, checkpoint.layout)}
    for key, shape in expected.items():
        if key not in checkpoint.shapes:
            return f"{key} is missing"
        if checkpoint.shapes[key] != shape:
            return f"{key} has shape {list(checkpoint.shapes[key])}, not {list(shape)}"
    return next((f"{key} does not belong to it" for key in checkpoint.shapes if key not in expected), "")


def _expected_sources(variant: Variant, layout: str) -> Iterator[_Source]:
    for tower, attribute in TOWER_KEYS.items():
        with torch.device("meta"):  # Only the shapes are needed. This device allocates no memory.
            network = build_tower(variant, tower)
        for name, value in network.state_dict().items():
            source = _source(f"{attribute}.{name}", tuple(value.shape), layout)
            if source is not None:
                yield source
    yield _Source("logit_scale", (), lambda value: value)


# (timm's name, Meta's name). Both libraries implement the same network. Meta uses nn.MultiheadAttention's names.
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
    """Find where a file of `layout` has open_clip's tensor `key` of `shape`.

    Returns:
        The source. None for the bias of timm's head, because Meta's network has no such tensor.
    """
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
    if name.startswith("attn_pool.q."):  # Meta stores query, key and value in one tensor.
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
    # The format begins with an 8-byte length and a JSON object (https://huggingface.co/docs/safetensors, "Format").
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _open_safetensors(path: Path) -> Checkpoint:
    with safe_open(path, framework="pt") as file:
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 - no dict
        notice = (file.metadata() or {}).get("notice", "")

    def read(key: str) -> Tensor:
        # Pages that were read stay in memory as long as the mapping exists. So each tensor gets its own mapping.
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
            warnings.simplefilter("ignore")  # Torch warns of unusual pickles. Such a file fails below or is harmless.
            # Torch can map only the zip format. It reads the older format as a whole.
            loaded: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        # Torch's own message has several lines and suggests disabling the protection, so it is not shown.
        raise CheckpointError(f"{path} is not a file of plain tensors, and nothing else is read from it") from error
    except (RuntimeError, EOFError, KeyError, ValueError, AttributeError, IndexError) as error:
        raise CheckpointError(f"{path} is neither safetensors nor a torch checkpoint, or it is damaged") from error
    for wrapper in ("state_dict", "weights"):  # Meta's own loader unwraps these two keys.
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise CheckpointError(f"{path} does not hold a table of tensors")
    return {str(key).removeprefix("module."): value for key, value in loaded.items()}
