import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from open_clip import get_pretrained_cfg
from safetensors.torch import load_file, save_file
from torch import Tensor

from export.errors import CheckpointError
from export.variants import VARIANTS, Variant, find_variant
from export.weights import checkpoint
from export.weights.checkpoint import Checkpoint, build_tower, load_tower, open_checkpoint, read_logit_scale, verify

pytestmark = pytest.mark.export

DEMO = find_variant("PE-Demo-T8-64")
Tensors = dict[str, Tensor]


def meta_layout(variant_name: str) -> Tensors:
    """Make random tensors with the names and shapes of Meta's own file."""
    torch.manual_seed(1)
    sources = checkpoint._expected_sources(find_variant(variant_name), "meta")
    return {source.key: torch.randn(source.shape) for source in sources}


def test_published_weights_are_where_open_clip_has_them() -> None:
    for variant in VARIANTS.values():
        published = get_pretrained_cfg(variant.architecture, "meta") if variant.hub_repository else None
        assert (published or {}).get("hf_hub", "").removesuffix("/") == variant.hub_repository


def networks(variant: Variant) -> tuple[Any, Any]:
    """Build both of open_clip's networks, vision first. The type is Any, because torch types submodules too loosely."""
    return build_tower(variant, "vision"), build_tower(variant, "text")


def loaded_networks(opened: Checkpoint) -> tuple[Any, Any]:
    vision: Any = load_tower(DEMO, "vision", opened)
    text: Any = load_tower(DEMO, "text", opened)
    return vision.visual, text.text


def test_the_table_agrees_with_open_clip() -> None:
    for variant in VARIANTS.values():
        with torch.device("meta"):
            vision, text = networks(variant)
        assert vision.image_size == (variant.image_size, variant.image_size)
        assert text.context_length == variant.context_length
        counts = {"vision": vision, "text": text}
        assert variant.parameters == {
            tower: sum(value.numel() for value in network.parameters()) for tower, network in counts.items()
        }
        assert vision.trunk.head.out_features == text.text_projection.shape[1] == variant.embed_dim


@pytest.mark.parametrize("save", [save_file, torch.save], ids=["safetensors", "torch"])
def test_open_clip_layout_loads_whatever_the_file_is_called(
    random_checkpoint: Path, tmp_path: Path, save: Callable[[Tensors, Path], None]
) -> None:
    tensors = load_file(random_checkpoint)
    save(tensors, tmp_path / "weights.bin")
    opened = open_checkpoint(tmp_path / "weights.bin")
    assert opened.layout == "open_clip"
    vision, text = loaded_networks(opened)
    assert read_logit_scale(opened) == pytest.approx(100)
    for name, value in vision.state_dict().items():
        assert torch.equal(value, tensors[f"visual.{name}"])
    for name, value in text.state_dict().items():
        assert torch.equal(value, tensors[f"text.{name}"])


@pytest.mark.parametrize("wrapper", [None, "state_dict", "weights"])
def test_meta_layout_loads_as_timm_converts_it(tmp_path: Path, wrapper: str | None) -> None:
    from timm.models.eva import checkpoint_filter_fn

    tensors = meta_layout("PE-Demo-T8-64")
    stored = {f"module.{key}": value for key, value in tensors.items()} if wrapper else tensors
    torch.save({wrapper: stored} if wrapper else stored, tmp_path / "meta.pt")
    opened = open_checkpoint(tmp_path / "meta.pt")
    assert opened.layout == "meta"
    vision, text = loaded_networks(opened)
    assert read_logit_scale(opened) == pytest.approx(math.exp(tensors["logit_scale"]))
    converted = checkpoint_filter_fn(dict(tensors), vision.trunk)
    loaded = vision.trunk.state_dict()
    assert converted.keys() == loaded.keys()
    for name, value in loaded.items():
        assert torch.equal(value, converted[name]), name
    for name, value in text.state_dict().items():
        assert torch.equal(value, tensors[name]), name


def test_every_variant_has_a_meta_layout_that_timm_accepts() -> None:
    from timm.models.eva import checkpoint_filter_fn

    for variant in VARIANTS.values():
        with torch.device("meta"):
            trunk = networks(variant)[0].trunk
            tensors = {
                source.key: torch.empty(source.shape) for source in checkpoint._expected_sources(variant, "meta")
            }
        converted = checkpoint_filter_fn(tensors, trunk)
        assert {key: value.shape for key, value in converted.items()} == {
            key: value.shape for key, value in trunk.state_dict().items()
        }


def test_half_precision_weights_become_fp32(random_checkpoint: Path, tmp_path: Path) -> None:
    tensors = {key: value.half() for key, value in load_file(random_checkpoint).items()}
    save_file(tensors, tmp_path / "half.safetensors")
    opened = open_checkpoint(tmp_path / "half.safetensors")
    tower = load_tower(DEMO, "text", opened)
    assert {value.dtype for value in tower.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("visual.trunk.norm.bias"), "visual.trunk.norm.bias is missing"),
        (lambda t: t.update({"visual.extra": torch.zeros(1)}), "visual.extra does not belong"),
        (
            lambda t: t.update({"text.positional_embedding": torch.zeros(77, 48)}),
            r"text.positional_embedding has shape \[77, 48\], not \[32, 48\]",
        ),
        (lambda t: t.pop("logit_scale"), "logit_scale is missing"),
    ],
    ids=["missing", "extra", "shape", "logit scale"],
)
def test_what_does_not_fit_names_itself(
    random_checkpoint: Path, tmp_path: Path, change: Callable[[Tensors], object], message: str
) -> None:
    tensors = load_file(random_checkpoint)
    change(tensors)
    save_file(tensors, tmp_path / "odd.safetensors")
    opened = open_checkpoint(tmp_path / "odd.safetensors")
    with pytest.raises(CheckpointError, match=f"not a PE-Demo-T8-64 checkpoint: {message}"):
        verify(DEMO, opened)


def test_a_meta_key_is_named_as_the_file_spells_it(tmp_path: Path) -> None:
    tensors = meta_layout("PE-Demo-T8-64")
    del tensors["visual.transformer.resblocks.0.attn.in_proj_bias"]
    torch.save(tensors, tmp_path / "meta.pt")
    opened = open_checkpoint(tmp_path / "meta.pt")
    with pytest.raises(CheckpointError, match=r"visual\.transformer\.resblocks\.0\.attn\.in_proj_bias is missing"):
        verify(DEMO, opened)


def test_another_variants_checkpoint_is_refused(random_checkpoint: Path) -> None:
    opened = open_checkpoint(random_checkpoint)
    with pytest.raises(
        CheckpointError, match=r"not a PE-Core-T16-384 checkpoint: .*; it is a PE-Demo-T8-64 checkpoint"
    ):
        verify(find_variant("PE-Core-T16-384"), opened)


def test_weights_that_are_not_finite_are_refused(random_checkpoint: Path, tmp_path: Path) -> None:
    tensors = load_file(random_checkpoint)
    tensors["text.ln_final.weight"][3] = torch.nan
    save_file(tensors, tmp_path / "nan.safetensors")
    opened = open_checkpoint(tmp_path / "nan.safetensors")
    with pytest.raises(CheckpointError, match=r"text\.ln_final\.weight holds values that are not finite"):
        load_tower(DEMO, "text", opened)


class Payload:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return (Path.touch, (Path("executed"),))  # type: ignore[return-value]


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_file_with_code_in_it_is_refused_and_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: Callable[[object, Path], object]
) -> None:
    monkeypatch.chdir(tmp_path)
    save({"logit_scale": Payload()}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match=r"evil\.pt") as raised:
        open_checkpoint(tmp_path / "evil.pt")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [b"not a checkpoint", b"PK\x03\x04 torn", b"\x10\0\0\0\0\0\0\0{torn"])
def test_damage_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "damaged.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"damaged") as raised:
        open_checkpoint(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"\n<!DOCTYPE html><title>Sign in</title>", "is a web page"), (b"<html>", "is a web page")],
)
def test_what_a_download_left_instead_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "PE-Core-L14-336.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(tmp_path / "PE-Core-L14-336.pt")


def test_a_torn_download_is_refused(random_checkpoint: Path, tmp_path: Path) -> None:
    torch.save(load_file(random_checkpoint), tmp_path / "whole.pt")
    for source in (random_checkpoint, tmp_path / "whole.pt"):
        torn = tmp_path / "torn"
        torn.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
        with pytest.raises(CheckpointError, match="damaged"):
            open_checkpoint(torn)


def test_a_table_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "loss": 0.5}, tmp_path / "training.pt")
    with pytest.raises(CheckpointError, match="table of tensors"):
        open_checkpoint(tmp_path / "training.pt")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    absent = tmp_path / "absent.pt"
    with pytest.raises(CheckpointError, match=r"no checkpoint file at .*absent\.pt"):
        open_checkpoint(absent)
