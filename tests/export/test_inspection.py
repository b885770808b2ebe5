import sys

import pytest

from export import inspection
from export.engines.tensorrt_compiler import ShapeRange
from export.variants import find_variant
from export.weights import random_checkpoint

pytestmark = pytest.mark.export


def test_the_profile_is_that_of_an_export_and_the_listing_has_its_largest_shape() -> None:
    profile = inspection.profile(find_variant("PE-Core-L14-336"), "text")
    assert profile == {"tokens": ShapeRange((1, 8), (16, 32), (32, 32))}
    assert inspection.largest_alone(profile) == {"tokens": ShapeRange((32, 32), (32, 32), (32, 32))}


def test_a_misspelled_variant_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for command, arguments in ((inspection, ["L14-366"]), (random_checkpoint, ["L14-366", "random.safetensors"])):
        monkeypatch.setattr(sys, "argv", ["command", *arguments])
        assert command.main() == 1
        error = capsys.readouterr().err
        assert "unknown variant 'L14-366'" in error
        assert error.count("\n") == 1


def test_a_file_that_cannot_be_written_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["command", "PE-Demo-T8-64", "/proc/absent/random.safetensors"])
    assert random_checkpoint.main() == 1
    assert capsys.readouterr().err.startswith("random_checkpoint: [Errno 2] No such file or directory: '/proc/absent/")
