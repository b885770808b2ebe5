"""The variables of `make serve`, by themselves and as the real `make` passes them on."""

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.real_model.variables import CHECKOUT, Mistake, read
from gateway.settings import Settings


def test_without_variables_nothing_is_wanted() -> None:
    wanted = read({"VARIANT": "", "CHECKPOINT": ""})
    assert (wanted.variant, wanted.checkpoint, wanted.models) == (None, None, CHECKOUT / "models")


def test_a_variant_is_known_in_any_letter_case(tmp_path: Path) -> None:
    wanted = read({"VARIANT": "pe-core-b16-224", "PE_MODELS": str(tmp_path)})
    assert wanted.variant is not None
    assert wanted.variant.name == "PE-Core-B16-224"
    assert wanted.models == tmp_path


def test_a_checkpoint_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my weights.pt").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read({"CHECKPOINT": "~/my weights.pt"}).checkpoint == tmp_path / "my weights.pt"


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"VARIANT": "PE-Core-B16"}, r"VARIANT=PE-Core-B16: unknown variant .* did you mean PE-Core-B16-224\?"),
        ({"CHECKPOINT": "/nowhere/a.pt"}, "CHECKPOINT=/nowhere/a.pt does not exist"),
        ({"CHECKPOINT": "/"}, "CHECKPOINT=/ is a directory: name the file in it"),
    ],
)
def test_a_wrong_value_is_named(environment: dict[str, str], message: str) -> None:
    with pytest.raises(Mistake, match=message):
        read(environment)


MAKEFILE = f"serve: ; @{sys.executable} -m deploy.real_model.variables\n"


def make(directory: Path, *variables: str) -> subprocess.CompletedProcess[str]:
    """Run the real `make` with these words, as far as the check of the variables."""
    (directory / "Makefile").write_text(MAKEFILE)
    return subprocess.run(
        ["make", "-f", directory / "Makefile", "serve", *variables],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("name", ["variant", "Variant", "VARIENT", "VARIANTS", "checkpoint", "CHECK_POINT", "MODELS"])
@pytest.mark.slow
def test_a_misspelled_variable_is_not_ignored(tmp_path: Path, name: str) -> None:
    run = make(tmp_path, "PORT=0", f"{name}=x y")
    assert run.returncode == 2
    assert f"make serve: there is no variable {name}. Letter case counts. There are VARIANT (" in run.stderr


@pytest.mark.slow
def test_settings_and_values_with_equal_signs_are_passed_on(tmp_path: Path) -> None:
    file = tmp_path / "a variant=1.pt"
    file.touch()
    run = make(tmp_path, "HOST=::1", f"CHECKPOINT={file}", "PE_TRITON_HEADERS=a=b c=d", "PYTHON=python3")
    assert (run.returncode, run.stderr) == (0, "")


def test_no_setting_is_taken_for_a_misspelled_variable() -> None:
    names = [str(field.validation_alias) for field in Settings.model_fields.values()]
    assert len(names) > 30
    for name in [*names, "PYTHON", "PE_ONNX_ENGINE", "PE_TRITON_PORTS", "HF_ENDPOINT", "HF_HOME"]:
        read({"MAKEFLAGS": f"w -- {name}=x"})
