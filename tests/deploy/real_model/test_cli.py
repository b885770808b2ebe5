"""`make serve CHECKPOINT=...`, and what `make serve` says where it cannot serve."""

import hashlib
import shutil
from pathlib import Path

import pytest

from export.variants import find_variant
from tests.make_serve import ROOT, CheckoutCopy
from tests.running import PeServe

DEMO = find_variant("PE-Demo-T8-64")
WEIGHTS = ROOT / "export/demo/PE-Demo-T8-64.safetensors"
DIGEST = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()

pytestmark = pytest.mark.triton


@pytest.fixture
def checkout(tmp_path: Path) -> CheckoutCopy:
    return CheckoutCopy(tmp_path / "checkout")


@pytest.fixture
def exported(checkout: CheckoutCopy) -> CheckoutCopy:
    """A checkout that has exported the demo's checkpoint, as far as the files tell."""
    for tower in ("vision", "text"):
        model = DEMO.model_name(tower)
        shutil.copytree(ROOT / "model_repository" / model, checkout.models / f"checkpoint-{DIGEST[:12]}" / model)
    return checkout


def refusal(stack: PeServe) -> str:
    """What a `make serve` that does not serve says after its set-up."""
    try:
        assert stack.wait(300) != 0
        return stack.output
    finally:
        stack.kill()


def test_a_file_is_recognized_exported_and_served(checkout: CheckoutCopy, tmp_path: Path) -> None:
    weights = Path(shutil.copy(WEIGHTS, tmp_path / "my weights.safetensors"))
    stack = checkout.make_serve(f"CHECKPOINT={weights}")
    try:
        stack.wait_for("^Ready on", 300)
        assert "my weights.safetensors is a PE-Demo-T8-64 checkpoint" in stack.output
        assert f"make serve: exporting to models/checkpoint-{DIGEST[:12]}." in stack.output
    finally:
        stack.kill()
    assert checkout.set_up() == ["serve", "export"]


def test_a_file_that_was_exported_is_known_by_its_contents(exported: CheckoutCopy, tmp_path: Path) -> None:
    exported.forget_export()
    stack = exported.make_serve(f"CHECKPOINT={shutil.copy(WEIGHTS, tmp_path / 'renamed.pt')}")
    try:
        stack.wait_until_ready()
        assert f"PE-Demo-T8-64 is in models/checkpoint-{DIGEST[:12]}: weights {WEIGHTS.name}; vision" in stack.output
    finally:
        stack.kill()
    assert exported.set_up() == ["serve"]


def test_a_file_of_another_variant_is_refused(exported: CheckoutCopy) -> None:
    said = refusal(exported.make_serve(f"CHECKPOINT={WEIGHTS}", "VARIANT=PE-Core-B16-224"))
    assert f"make serve: CHECKPOINT={WEIGHTS} is a PE-Demo-T8-64 checkpoint: omit VARIANT" in said


def test_a_file_of_another_variant_is_refused_by_its_first_export(checkout: CheckoutCopy) -> None:
    said = refusal(checkout.make_serve(f"CHECKPOINT={WEIGHTS}", "VARIANT=PE-Core-T16-384"))
    assert "pe-export: PE-Demo-T8-64.safetensors is not a PE-Core-T16-384 checkpoint: " in said
    assert "; it is a PE-Demo-T8-64 checkpoint" in said
    assert not list(checkout.models.rglob("*.onnx"))


def test_without_a_network_it_says_what_to_bring(checkout: CheckoutCopy, tmp_path: Path) -> None:
    home = {"HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    said = refusal(checkout.make_serve("VARIANT=PE-Core-B16-224", **home))
    for expected in (
        "https://huggingface.co/timm/PE-Core-B-16/resolve/main/open_clip_model.safetensors",
        "https://huggingface.co/facebook/PE-Core-B16-224/resolve/main/PE-Core-B16-224.pt",
        "make serve CHECKPOINT=FILE",
    ):
        assert expected in said
    assert "Traceback" not in said


def test_a_checkpoint_that_is_none_is_refused(checkout: CheckoutCopy, tmp_path: Path) -> None:
    (tmp_path / "page.pt").write_text("<!doctype html><p>Sign in")
    said = refusal(checkout.make_serve(f"CHECKPOINT={tmp_path / 'page.pt'}"))
    assert f"pe-export: {tmp_path / 'page.pt'} is " in said
    assert "Traceback" not in said


def test_without_variables_the_repository_of_the_checkout_is_served(checkout: CheckoutCopy) -> None:
    shutil.copytree(ROOT / "model_repository", checkout.path / "model_repository")
    stack = checkout.make_serve()
    try:
        stack.wait_until_ready()
        assert "make serve:" not in stack.output
    finally:
        stack.kill()
    assert checkout.set_up() == ["serve"]
